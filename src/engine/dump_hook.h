/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The other end of stasis-hook (src/supervisor/hook.c). At its post-dump action CRIU has handed over all files, the
 * tasks are still frozen, and it waits for its action script: the hook asks here and waits for the answer. Two things
 * need that:
 *
 * - What is left in a pipe are references to pages of the target, not copies. They must be read before it runs on.
 * - With --stop, CRIU ends the target next. It must not before the checkpoint is committed.
 *
 * Only the answer lets CRIU go on; the end of the connection makes it fail and resume the target.
 */

#include <stasis/error.h>

struct dump_hook {
        char *path;
        int listener;
        int connection; /* -EBADF until CRIU's hook is there */
};

#define DUMP_HOOK_NULL \
        { NULL, -EBADF, -EBADF }

/** Listens in the work directory. */
int dump_hook_listen(struct dump_hook *hook, const char *work_dir, struct st_error **err);

/** Takes the hook's connection, after the listener polled readable. */
int dump_hook_accept(struct dump_hook *hook, struct st_error **err);

/** Tells the hook that CRIU may go on. */
int dump_hook_answer(struct dump_hook *hook, struct st_error **err);

/** Closes everything; a hook without an answer then fails, and CRIU with it. */
void dump_hook_close(struct dump_hook *hook);
