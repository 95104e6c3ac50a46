/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Stopping a tree of processes by signals: SIGSTOP to each, parents before their children (who is stopped cannot
 * fork), again and again until no new child appears; SIGCONT in the opposite order. It knows who was stopped before,
 * and leaves those alone.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

struct stopped_task {
        pid_t pid;
        uint64_t start_time; /* with the PID, the identity of the process (struct process_task) */
        bool ours;           /* stopped by us; else somebody did before */
};

/** Zero-initialise; free with stopped_clear(). */
struct stopped {
        struct stopped_task *tasks; /* parents before their children */
        size_t n, room;
};

void stopped_add(struct stopped *stopped, pid_t pid, uint64_t start_time, bool ours);
/** @return its place in the list; NULL: it is not there */
const struct stopped_task *stopped_find(const struct stopped *stopped, pid_t pid, uint64_t start_time);
void stopped_clear(struct stopped *stopped);
#define _cleanup_stopped_ __attribute__((cleanup(stopped_clear)))

struct stopper {
        int timeout_ms; /* for the whole tree */
        int cancel_fd;  /* polls readable when to give up; -1: none */
        /**
         * Called with the list so far whenever it has grown, before any of the new processes is stopped; what it writes
         * down survives our death. It may refuse: the tree is then continued.
         */
        int (*record)(const struct stopped *stopped, void *userdata, struct st_error **err);
        void *userdata;
};

/**
 * Stops a tree and waits until every thread of it stands. On failure everything that was stopped is continued.
 *
 * Errors: -ESRCH: no such process; -EBUSY: one of it is traced; -ETIMEDOUT: one does not stop, or it forks faster than
 * it can be stopped; -ECANCELED; what `record` returned.
 *
 * @param known tasks that are stopped already and are ours all the same; NULL: none
 */
int stopper_stop(pid_t root, const struct stopper *options, const struct stopped *known, struct stopped *ret,
                 struct st_error **err);

/** Continues those of the list that are ours, that live, and that are still the same processes. @return how many */
size_t stopper_continue(const struct stopped *stopped);

/** Sends a signal to a process if it is still that one. @return 0 or -errno (-ESRCH: it is gone) */
int stopper_signal(pid_t pid, uint64_t start_time, int number);

/** The PID that a process sees itself: of the innermost PID namespace it is in. 0: it is gone. */
pid_t stopper_own_pid(pid_t pid);

/** Do all threads of a process stand, by a stop signal? false also for one that is gone */
bool stopper_stands(pid_t pid, uint64_t start_time);
