/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The threads of a process, each with what keeps others from stopping it. */

#include <stdint.h>
#include <sys/types.h>

struct thread {
        pid_t tid;
        char state;        /* R, S, D, T, t, Z, … (proc(5)) */
        pid_t tracer;      /* 0: nobody */
        uint64_t switches; /* how often it gave up the processor: while this stays, it has not run */
};

/** Called for each thread, the main one too; a negative result ends the iteration. */
typedef int (*thread_fn)(const struct thread *thread, void *userdata);

/** Reads one thread from an open /proc/PID (see proc_open()). @return 0 or -errno */
int thread_read(int proc_fd, pid_t tid, struct thread *ret);

/** @return 0; -ESRCH when the process is gone; another -errno; what `call` returned */
int threads_each(int proc_fd, thread_fn call, void *userdata);
