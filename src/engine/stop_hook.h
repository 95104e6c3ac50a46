/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The other end of stasis-hook (src/supervisor/hook.c). With --stop, CRIU reports success and ends the tasks after its
 * last file; so at its post-dump action, the tasks still frozen, the hook asks here and waits. Only the answer "committed"
 * lets CRIU go on; silence or the end of the connection makes it resume the target.
 */

#include <stasis/error.h>

struct stop_hook {
        char *path;
        int listener;
        int connection; /* -EBADF until CRIU's hook is there */
};

#define STOP_HOOK_NULL \
        { NULL, -EBADF, -EBADF }

/** Listens in the work directory. */
int stop_hook_listen(struct stop_hook *hook, const char *work_dir, struct st_error **err);

/** Takes the hook's connection, after the listener polled readable. */
int stop_hook_accept(struct stop_hook *hook, struct st_error **err);

/** Tells the hook: the checkpoint is committed, the target may end. */
int stop_hook_commit(struct stop_hook *hook, struct st_error **err);

/** Closes everything; a hook without an answer then fails, and CRIU resumes the target. */
void stop_hook_close(struct stop_hook *hook);
