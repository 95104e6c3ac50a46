/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/restore_context.h"

#include <stdarg.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/chain.h"
#include "engine/engine.h"
#include "engine/request.h"

/* In the place of this the adapters or the handler of the request's type are slotted in. */
#define BUILT_IN ST_FEATURE_COUNT

/* The chain of a restore, outermost first: it mirrors the dump's. */
static const struct restore_step {
        struct st_restore_adapter adapter;
        enum st_feature feature;
} steps[] = {
        { { "defaults", restore_defaults }, BUILT_IN },
        { { "validate", restore_validate }, BUILT_IN },
        { { "pid file", restore_pid_file }, BUILT_IN },
        { { "storage", restore_storage }, BUILT_IN },
        { { "type, early", NULL }, ST_FEATURE_restore_middleware_early },
        { { "reload state", restore_reload_state }, BUILT_IN },
        { { "network options", restore_network }, BUILT_IN },
        { { "type, late", NULL }, ST_FEATURE_restore_middleware_late },
        { { "check CRIU", restore_check_criu }, BUILT_IN },
        { { "preflight", restore_preflight }, BUILT_IN },
        { { "files", restore_files }, BUILT_IN },
        { { "mounts", restore_mounts }, BUILT_IN },
        { { "inherit files", restore_inherit_files }, BUILT_IN },
        { { "terminal", restore_terminal }, BUILT_IN },
        { { "hooks", restore_hooks }, BUILT_IN },
        { { "continue", restore_continue }, BUILT_IN },
        { { "CRIU", restore_criu }, ST_FEATURE_restore_handler },
};

void restore_message(struct st_restore *restore, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        message_append(&restore->resp->n_messages, &restore->resp->messages, xvasprintf(format, ap));
        va_end(ap);
}

bool restore_forced_off(const struct st_restore *restore, const char *option) {
        return request_is_off(restore->req->off, restore->req->n_off, option);
}

bool restore_is_inherited(const struct st_restore *restore, const char *key) {
        for (size_t i = 0; i < restore->criu->n_inherit_fd; i++)
                if (streq(restore->criu->inherit_fd[i]->key, key))
                        return true;
        return false;
}

int st_restore_inherit_fd(struct st_restore *restore, int fd, const char *key, struct st_error **err) {
        struct restore_context *context = restore_context(restore);
        Criu__InheritFd *entry;

        if (fd < 0 || isempty(key))
                return st_error_set(err, EINVAL, "an inherited descriptor needs a descriptor and a key");
        for (size_t i = 0; i < context->n_fds; i++)
                if (context->fds[i].number == fd)
                        return st_error_set(err, EEXIST, "descriptor %d is handed to CRIU already", fd);

        GROW(context->fds, context->n_fds, context->room_fds);
        context->fds[context->n_fds++] = (struct spawn_fd){ .fd = fd, .number = fd };
        entry = message_new(&criu__inherit_fd__descriptor);
        entry->key = xstrdup(key);
        entry->fd = fd;
        message_append(&restore->criu->n_inherit_fd, &restore->criu->inherit_fd, entry);
        return 0;
}

static int build_chain(struct chain *chain, const char *type, struct st_error **err) {
        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                int r = -EOPNOTSUPP;

                if (steps[i].feature != BUILT_IN)
                        r = chain_add_feature(chain, steps[i].feature, type, err);
                if (r == -EOPNOTSUPP)
                        r = steps[i].adapter.run ? chain_add_restore(chain, NULL, &steps[i].adapter, err) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

int engine_restore(struct st_operation *operation, Daemon__RestoreReq *req, Daemon__RestoreResp *resp, int *ret_pty,
                   struct st_error **err) {
        if (!req->type)
                req->type = xstrdup("process");
        if (!req->criu)
                req->criu = message_new(&criu__criu_opts__descriptor);

        struct restore_context context = {
                .restore = {
                        .size = sizeof(struct st_restore),
                        .operation = operation,
                        .req = req,
                        .resp = resp,
                        .criu = req->criu,
                },
                .pty = -EBADF,
        };
        struct chain chain = { .operation = operation };
        int r;

        r = build_chain(&chain, req->type, err);
        if (r >= 0)
                r = chain_run_restore(&chain, &context.restore, err);

        image_free(context.image);
        saved_state_free(context.saved);
        criu_binary_free(context.criu);
        free(context.fds);
        if (r < 0 && context.pty >= 0) {
                close(context.pty);
                context.pty = -EBADF;
        }
        *ret_pty = context.pty;
        return r;
}
