/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Threads of the data path. All signals are blocked in them: signals belong to the program's main thread, and a pipe
 * whose reader is gone must not kill anybody.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include <stasis/error.h>

/** Starts a joinable thread with a small stack. @return 0 or -errno */
int threads_start(pthread_t *ret, void *(*function)(void *), void *userdata);

/** One of several independent jobs, on any of the threads. @return 0; -errno with err: no further job is begun */
typedef int (*threads_job)(size_t index, void *userdata, struct st_error **err);

/** Runs n jobs, begun in order, by up to two threads and waits for their end. @return 0 or the first error */
int threads_run(size_t n, threads_job job, void *userdata, struct st_error **err);

/** The same, a thread for each job. */
int threads_run_all(size_t n, threads_job job, void *userdata, struct st_error **err);

/** Does a descriptor (an eventfd, a socket, a pipe) poll readable or hung up? false for a negative one. */
bool threads_signalled(int fd);
