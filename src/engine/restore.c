/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/restore_context.h"

#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/chain.h"
#include "engine/engine.h"
#include "engine/handler_options.h"
#include "engine/request.h"
#include "engine/restore_images.h"
#include "process/proc.h"

/* In the place of this the adapters or the handler of the request's type are slotted in. */
#define BUILT_IN ST_FEATURE_COUNT

/* Which types a step is for. */
enum scope {
        ALL,
        BY_CRIU, /* types that CRIU restores: not those whose plugin has a handler in its place */
        BY_HANDLER,
};

static bool is_check(const struct st_restore *restore) {
        return restore->req->has_check && restore->req->check;
}

/** A handler that succeeds has restored something, unless it was only to look. */
static int check_result(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        int r = st_restore_proceed(next, restore, err);

        if (r >= 0 && restore->pid <= 0 && !is_check(restore))
                return st_error_set(err, EPROTO, "the handler of type %s restored no process", restore->req->type);
        return r;
}

/* The chain of a restore, outermost first: it mirrors the dump's. */
static const struct restore_step {
        struct st_restore_adapter adapter;
        enum st_feature feature;
        enum scope scope;
} steps[] = {
        { { "defaults", restore_defaults }, BUILT_IN, ALL },
        { { "validate", restore_validate }, BUILT_IN, ALL },
        { { "options", restore_handler_options }, BUILT_IN, BY_HANDLER },
        { { "pid file", restore_pid_file }, BUILT_IN, ALL },
        { { "storage", restore_storage }, BUILT_IN, ALL },
        { { "type, early", NULL }, ST_FEATURE_restore_middleware_early, ALL },
        { { "reload state", restore_reload_state }, BUILT_IN, ALL },
        { { "network options", restore_network }, BUILT_IN, ALL },
        { { "type, late", NULL }, ST_FEATURE_restore_middleware_late, ALL },
        { { "check CRIU", restore_check_criu }, BUILT_IN, BY_CRIU },
        { { "preflight", restore_preflight }, BUILT_IN, BY_CRIU },
        { { "memory", restore_memory }, BUILT_IN, BY_CRIU },
        { { "files", restore_files }, BUILT_IN, BY_CRIU },
        { { "mounts", restore_mounts }, BUILT_IN, BY_CRIU },
        { { "inherit files", restore_inherit_files }, BUILT_IN, BY_CRIU },
        { { "terminal", restore_terminal }, BUILT_IN, BY_CRIU },
        { { "cgroup", restore_cgroup }, BUILT_IN, BY_CRIU },
        { { "hooks", restore_hooks }, BUILT_IN, ALL },
        { { "continue", restore_continue }, BUILT_IN, BY_CRIU },
        { { "result", check_result }, BUILT_IN, BY_HANDLER },
        { { "CRIU", restore_criu }, ST_FEATURE_restore_handler, ALL },
};

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
        bool handled = chain_has_feature(ST_FEATURE_restore_handler, type);

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                int r = -EOPNOTSUPP;

                if (steps[i].scope == (handled ? BY_CRIU : BY_HANDLER))
                        continue;
                if (steps[i].feature != BUILT_IN)
                        r = chain_add_feature(chain, steps[i].feature, type, err);
                if (r == -EOPNOTSUPP)
                        r = steps[i].adapter.run ? chain_add_restore(chain, NULL, &steps[i].adapter, err) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

/** Says who is to be waited for, and on which terminal it is. */
static void hand_over(struct restore_context *context, struct engine_started *ret) {
        struct st_restore *restore = &context->restore;
        struct proc_stat stat;

        restore->resp->has_pid = 1;
        restore->resp->pid = (uint32_t)restore->pid;
        ret->child = restore->waiter == ST_RESTORE_NOBODY ? 0 : restore->waiter > 0 ? restore->waiter : restore->pid;
        ret->pid = restore->pid;
        if (proc_read_stat(ret->pid, &stat) >= 0)
                ret->start_time = stat.start_time;
        ret->memory_fd = TAKE_FD(context->memory_fd);
        ret->memory_record = TAKE_PTR(context->memory_record);
        if (restore->terminal >= 0) { /* of a handler */
                ret->stdio.terminal = restore->terminal;
                restore->terminal = -EBADF;
        } else {
                ret->stdio = context->stdio.ours;
                context->stdio.ours = ENGINE_STDIO_NULL;
        }
        if (!engine_started_has_stdio(ret) && restore->req->attachable && restore->pid > 0)
                st_restore_message(restore, "its output goes where it went before: there is nothing to attach to");
        if (engine_started_has_stdio(ret) && !isempty(restore->req->log))
                ret->log = path_absolute(restore->req->log);
}

int engine_restore(struct st_operation *operation, Daemon__RestoreReq *req, Daemon__RestoreResp *resp,
                   struct engine_started *ret, struct st_error **err) {
        if (!req->type)
                req->type = xstrdup("process");
        if (!req->criu)
                req->criu = message_new(&criu__criu_opts__descriptor);

        _cleanup_(message_freep) Criu__CriuOpts *given = message_copy(&req->criu->base);
        struct restore_context context = {
                .restore = {
                        .size = sizeof(struct st_restore),
                        .operation = operation,
                        .req = req,
                        .resp = resp,
                        .criu = req->criu,
                        .given = given,
                        .terminal = -EBADF,
                },
                .memory_fd = -EBADF,
                .unpacked_fd = -EBADF,
                .stdio = JOB_STDIO_NULL,
        };
        struct chain chain = { .operation = operation };
        int r;

        *ret = ENGINE_STARTED_NULL;
        r = build_chain(&chain, req->type, err);
        if (r >= 0)
                r = chain_run_restore(&chain, &context.restore, err);
        if (r >= 0)
                hand_over(&context, ret);

        restore_images_clear(&context);
        image_free(context.image);
        saved_state_free(context.saved);
        criu_binary_free(context.criu);
        free(context.fds);
        for (size_t i = 0; i < context.n_opened; i++)
                close(context.opened[i]);
        free(context.opened);
        job_stdio_clear(&context.stdio);
        strv_clear(&context.cgroups);
        cleanup_closep(&context.memory_fd);
        free(context.memory_record);
        if (context.restore.terminal >= 0)
                close(context.restore.terminal);
        return r;
}
