/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dump_hook.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "supervisor/hook_protocol.h"

int dump_hook_listen(struct dump_hook *hook, const char *work_dir, struct st_error **err) {
        hook->path = path_join(work_dir, HOOK_SOCKET_NAME);
        hook->listener = io_listen_unix(hook->path, 0600, 1);
        if (hook->listener < 0)
                return st_error_errno(err, hook->listener, "cannot listen at %s", hook->path);
        return 0;
}

int dump_hook_accept(struct dump_hook *hook, struct st_error **err) {
        hook->connection = io_accept(hook->listener);
        if (hook->connection < 0)
                return st_error_errno(err, hook->connection, "cannot talk to CRIU's hook");
        return 0;
}

int dump_hook_answer(struct dump_hook *hook, struct st_error **err) {
        const char answer = HOOK_GO_ON;
        int r = io_write_full(hook->connection, &answer, 1);

        if (r < 0)
                return st_error_errno(err, r, "CRIU's hook is gone");
        return 0;
}

void dump_hook_close(struct dump_hook *hook) {
        if (hook->connection >= 0)
                close(hook->connection);
        if (hook->listener >= 0)
                close(hook->listener);
        free(hook->path);
        *hook = (struct dump_hook)DUMP_HOOK_NULL;
}
