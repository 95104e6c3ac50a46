/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Restores of native images whose memory does not come from CRIU (src/lazy/):
 *
 * - gated, the default: threads of ours put the pages in while CRIU builds the processes; its hook waits until all is
 *   in and was found right. Nothing runs before.
 * - lazy, for `restore --lazy`: the processes run at once, a process of its own (lazy_process.h) goes on.
 */

#include <poll.h>

#include "engine/restore_context.h"

struct restore_lazy;

#define RESTORE_LAZY_FDS 2

/**
 * Starts what serves the pages, before CRIU is started and before this process is a subreaper. Nothing happens when
 * CRIU reads the memory: context->lazy is NULL then, as it is when it reads a directory (restore_directory.h).
 */
int restore_lazy_start(struct restore_context *context, struct st_error **err);

/** Completes how CRIU is run. @param environment empty; for CRIU's, lives as long as `criu` */
void restore_lazy_options(const struct restore_lazy *lazy, struct criu_run *criu, struct strv *environment);

/** What to wait for, and for how long at most (milliseconds, negative: for ever). */
int restore_lazy_polled(const struct restore_lazy *lazy, struct pollfd fds[RESTORE_LAZY_FDS]);

/** After each poll. @return 0; a failure with err: the restore is to be ended */
int restore_lazy_handle(struct restore_lazy *lazy, const struct pollfd fds[RESTORE_LAZY_FDS], struct st_error **err);

/** CRIU has failed: because its memory did? Its own words are then only an effect. @return 0: no; that, with err */
int restore_lazy_explain(struct restore_lazy *lazy, struct st_error **err);

/** The restore has failed: nobody waits for pages any more. NULL is fine. */
void restore_lazy_abort(struct restore_lazy *lazy);

/** CRIU has succeeded. @return 0; a failure with err: what it restored must be ended */
int restore_lazy_restored(struct restore_lazy *lazy, pid_t root, struct st_error **err);

/** Aborts what was not restored. NULL is fine. @return NULL */
struct restore_lazy *restore_lazy_free(struct restore_lazy *lazy);
