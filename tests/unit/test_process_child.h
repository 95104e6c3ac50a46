/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Children to look at: each leads a session, has /dev/null as 0, 1 and 2 and nothing else open, and waits. All
 * processes of such a tree hold the writing end of a pipe until they are as they shall be: its end says that they are.
 */

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "process/proc.h"

/** Where the descriptor that child_start() hands on is in the child. */
#define CHILD_FD 200
#define CHILD_READY_FD 201

/** For the children: a step that must work. */
#define CHILD_CHECK(expression)              \
        do {                                 \
                if (!(expression)) {         \
                        perror(#expression); \
                        _exit(99);           \
                }                            \
        } while (0)

/** This process is ready to be looked at. */
static inline void child_wait(void) {
        close(CHILD_READY_FD);
        for (;;)
                pause();
}

/** In a child: starts a child of its own that waits and ends with its parent. */
static inline pid_t child_fork(void) {
        pid_t pid = fork();

        CHILD_CHECK(pid >= 0);
        if (pid == 0)
                CHILD_CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
        return pid;
}

/** Starts a child and waits until it and its children are ready, or executed a program. `keep`: a descriptor, or -1. */
static inline pid_t child_start_in(bool new_session, void (*set_up)(void), int keep) {
        int ready[2];
        char byte;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                CHILD_CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
                CHILD_CHECK(!new_session || setsid() > 0);
                CHILD_CHECK(dup3(ready[1], CHILD_READY_FD, O_CLOEXEC) >= 0);
                if (keep >= 0)
                        CHILD_CHECK(dup2(keep, CHILD_FD) >= 0);
                close_range(3, CHILD_FD - 1, 0);
                if (keep < 0)
                        close(CHILD_FD);
                close_range(CHILD_READY_FD + 1, ~0U, 0);
                int null = open("/dev/null", O_RDWR);
                CHILD_CHECK(null >= 0);
                for (int fd = 0; fd < 3; fd++)
                        CHILD_CHECK(fd == 2 || dup2(null, fd) >= 0);
                if (set_up)
                        set_up();
                CHILD_CHECK(dup2(null, 2) >= 0 && close(null) == 0);
                child_wait();
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 0);
        close(ready[0]);
        /* A set-up that failed has ended the child. */
        siginfo_t info = { 0 };
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
        assert_int_equal(info.si_pid, 0);
        /* From the end of the pipe to its sleep there is a moment to go. */
        struct proc_stat stat = { 0 };
        for (int i = 0; i < 1000 && stat.state != 'S'; i++) {
                assert_int_equal(proc_read_stat(pid, &stat), 0);
                usleep(stat.state == 'S' ? 0 : 1000);
        }
        return pid;
}

static inline pid_t child_start(void (*set_up)(void), int keep) {
        return child_start_in(true, set_up, keep);
}

static inline void child_stop(pid_t pid) {
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/** In the set-up of a child, for its own children: nothing of the parent's stays open but 0, 1, 2 and `keep`. */
static inline void child_keep_only(int keep) {
        CHILD_CHECK(dup2(0, 2) >= 0);
        CHILD_CHECK(keep < 0 || dup2(keep, CHILD_FD) >= 0);
        close_range(3, CHILD_FD - 1, 0);
        if (keep < 0)
                close(CHILD_FD);
}
