/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The standard streams of a job: a terminal, or three pipes, made with both sides; and the file of its output. All
 * descriptors are close-on-exec and above 2.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <daemon/daemon.pb-c.h>
#include <stasis/error.h>
#include <stasis/run.h>

struct job_stdio {
        struct st_stdio ours; /* -EBADF each: none */
        int job[3];           /* what becomes its descriptors 0, 1 and 2; -EBADF: none */
        bool terminal;        /* they are one */
};

#define JOB_STDIO_NULL                                                                                   \
        ((struct job_stdio){ .ours = { .terminal = -EBADF, .in = -EBADF, .out = -EBADF, .err = -EBADF }, \
                             .job = { -EBADF, -EBADF, -EBADF } })

/**
 * A fresh terminal.
 *
 * @param size NULL, or 0 in it: not known
 * @param avoid, n_avoid indices (pts(4)) that it must not have
 */
int job_stdio_make_terminal(const Daemon__TerminalSize *size, const unsigned *avoid, size_t n_avoid,
                            struct job_stdio *ret, struct st_error **err);

/** Sets the size of a terminal, by either side. Size as above. */
void job_stdio_resize(int terminal, const Daemon__TerminalSize *size);

int job_stdio_make_pipes(struct job_stdio *ret, struct st_error **err);

/** Our own standard streams, for the job. Those that are closed: none. */
int job_stdio_inherit(struct job_stdio *ret, struct st_error **err);

/** Closes the job's side, once it has it. */
void job_stdio_close_job(struct job_stdio *stdio);

void job_stdio_clear(struct job_stdio *stdio);

/**
 * Opens the file for output to append to it; one that is not there is made, 0600, and belongs to uid and gid. A
 * symbolic link is followed when it is root's or that user's.
 *
 * @return the descriptor; -errno with err
 */
int job_stdio_open_log(const char *path, uid_t uid, gid_t gid, struct st_error **err);

/**
 * The file itself as the output of a job that nobody attaches to: so its output outlives whoever looks after it. As
 * job_stdio_open_log().
 *
 * @param stdio without an output; what was opened before a failure is in it, too
 */
int job_stdio_use_log(struct job_stdio *stdio, const char *path, uid_t uid, gid_t gid, struct st_error **err);
