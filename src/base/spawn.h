/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The one way to start a child: fork+exec with close_range, an empty signal mask, default dispositions, and the
 * descriptors it is told. Works from a program with threads (only async-signal-safe calls between fork and exec).
 */

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <stasis/error.h>

struct spawn_fd {
        int fd;     /* of the parent; -EBADF: /dev/null */
        int number; /* in the child */
};

struct spawn {
        const char *path;           /* looked up in PATH when it has no slash */
        char *const *argv;          /* NULL-terminated; argv[0] is passed as it is */
        char *const *environment;   /* NULL: the parent's */
        const char *directory;      /* working directory; NULL: the parent's */
        const struct spawn_fd *fds; /* what the child gets; 0, 1 and 2 are /dev/null unless named here */
        size_t n_fds;
        bool inherit_stdio;     /* keep the parent's 0, 1 and 2 */
        bool new_session;       /* setsid: not reached by the terminal's Ctrl-C */
        bool ignore_interrupts; /* SIGINT, SIGQUIT, SIGTSTP and SIGHUP ignored: same reason, within the session */
        const int *cgroups;     /* opened cgroup.procs (cgroups(7)) that the child enters before anything else */
        size_t n_cgroups;
        int parent_death_signal;           /* 0: none; delivered when the spawning thread ends */
        const struct rlimit *limit_nofile; /* its RLIMIT_NOFILE; NULL: the parent's */
};

/**
 * Starts the child and waits until it has exec'ed: a program that cannot be started is an error here.
 *
 * @param ret_pidfd may be NULL; a pidfd of the child, close-on-exec, the caller's
 * @return the PID or a negative errno with err
 */
pid_t spawn_start(const struct spawn *spawn, int *ret_pidfd, struct st_error **err);

/**
 * Starts this program once more, as a process that stands alone: in /, in a session of its own, with these descriptors.
 *
 * @param argv NULL-terminated, argv[0] included
 * @return as spawn_start()
 */
pid_t spawn_self(char *const *argv, const struct spawn_fd *fds, size_t n_fds, struct st_error **err);

/**
 * Waits for a child.
 *
 * @param ret_status may be NULL; the wait status too
 * @return its wait status (as of waitpid), or -errno
 */
int spawn_wait(pid_t pid, int *ret_status);

/**
 * Runs a program to its end and takes what it prints.
 *
 * @param timeout_ms beyond it the child is killed and the result is -ETIMEDOUT
 *                   (with new_session: its whole group); negative: no limit
 * @param ret_output may be NULL; stdout and stderr (less what `fds` names) together, malloc'ed, at most 1 MiB of it
 * @return the exit code (128 + N for a signal) or a negative errno with err
 */
int spawn_run(const struct spawn *spawn, int timeout_ms, char **ret_output, struct st_error **err);

/** The same, ended like that, with -ECANCELED, also when cancel_fd polls readable; -EBADF: nothing cancels it. */
int spawn_run_until(const struct spawn *spawn, int timeout_ms, int cancel_fd, char **ret_output, struct st_error **err);

/** "exited with code 3", "killed by SIGSEGV (core dumped)"; malloc'ed */
char *spawn_describe_status(int status);

/** Exit code as a shell gives it: the code, or 128 + N for signal N. */
int spawn_exit_code(int status);
