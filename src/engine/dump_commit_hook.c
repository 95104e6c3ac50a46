/* SPDX-License-Identifier: Apache-2.0 */

/* The commit at CRIU's hook when a handler has somebody else run CRIU: the handler waits for that, a thread for CRIU */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <stasis/checkpoint.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "engine/dump_commit_hook.h"
#include "engine/dump_context.h"
#include "engine/dump_hook.h"

struct commit_hook {
        struct st_dump *dump;
        struct dump_hook hook;
        char *script;
        pthread_t thread;
        int end_fd; /* eventfd: CRIU has ended */
        /* Of the thread, until it was joined. */
        bool asked;
        int result;
        struct st_error *error;
};

static void *serve(void *userdata) {
        struct commit_hook *commit = userdata;
        struct pollfd fds[] = {
                { .fd = commit->hook.listener, .events = POLLIN },
                { .fd = commit->end_fd, .events = POLLIN },
        };

        while (poll(fds, ELEMENTSOF(fds), -1) < 0)
                if (errno != EINTR)
                        return NULL;
        if (!fds[0].revents)
                return NULL;
        commit->asked = true;
        commit->result = dump_hook_accept(&commit->hook, &commit->error);
        if (commit->result >= 0)
                commit->result = st_dump_commit(commit->dump, &commit->error);
        if (commit->result >= 0)
                commit->result = dump_hook_answer(&commit->hook, &commit->error);
        dump_hook_close(&commit->hook);
        return NULL;
}

struct commit_hook *commit_hook_free(struct commit_hook *commit) {
        if (!commit)
                return NULL;
        dump_hook_close(&commit->hook);
        if (commit->script)
                (void)unlink(commit->script);
        if (commit->end_fd >= 0)
                close(commit->end_fd);
        st_error_free(commit->error);
        free(commit->script);
        free(commit);
        return NULL;
}

/** The hook finds its socket beside the name that it was called by: HOOK_SOCKET_NAME. */
static int make_script(struct commit_hook *commit, const char *work_dir, struct st_error **err) {
        _cleanup_free_ char *program = path_libexec("stasis-hook");

        commit->script = path_join(work_dir, "hook");
        if (access(program, X_OK) < 0)
                return st_error_errno(err, errno, "a part of stasis is missing, %s", program);
        return symlink(program, commit->script) < 0 ? st_error_errno(err, errno, "cannot make %s", commit->script) : 0;
}

int st_dump_commit_at_hook(struct st_dump *dump, const char **ret_script, struct st_error **err) {
        const char *work_dir = st_operation_work_dir(dump->operation);
        struct commit_hook *commit = NEW(struct commit_hook);
        int r;

        *commit = (struct commit_hook){ .dump = dump, .hook = DUMP_HOOK_NULL };
        commit->end_fd = eventfd(0, EFD_CLOEXEC);
        r = commit->end_fd < 0 ? st_error_errno(err, errno, "cannot make an event descriptor") : 0;
        if (r >= 0)
                r = dump_hook_listen(&commit->hook, work_dir, err);
        if (r >= 0)
                r = make_script(commit, work_dir, err);
        if (r >= 0) {
                r = -pthread_create(&commit->thread, NULL, serve, commit);
                if (r < 0)
                        st_error_errno(err, r, "cannot start a thread");
        }
        if (r < 0) {
                commit_hook_free(commit);
                return r;
        }
        dump_context(dump)->commit_hook = commit;
        *ret_script = commit->script;
        return 0;
}

int st_dump_hook_result(struct st_dump *dump, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        struct commit_hook *commit = context->commit_hook;
        const uint64_t one = 1;
        int r = 0;

        if (!commit)
                return 0;
        (void)io_write_full(commit->end_fd, &one, sizeof(one));
        (void)pthread_join(commit->thread, NULL);
        if (commit->asked)
                r = commit->result < 0 ? st_error_move(err, TAKE_PTR(commit->error)) : 1;
        context->commit_hook = commit_hook_free(commit);
        return r;
}
