/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dump_context.h"

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "engine/chain.h"
#include "engine/engine.h"
#include "engine/handler_options.h"
#include "engine/request.h"

/* In the place of this the adapters or the handler of the request's type are slotted in. */
#define BUILT_IN ST_FEATURE_COUNT

/* Which types a step is for. */
enum scope {
        ALL,
        PROCESS, /* the built-in type: other types have adapters of their own for it */
        BY_CRIU, /* types that CRIU dumps: not those whose plugin has a handler in its place */
        BY_HANDLER,
};

/*
 * The chain of a dump, outermost first. All analysis is done before CRIU freezes anything; nothing remote happens then.
 */
static const struct dump_step {
        struct st_dump_adapter adapter;
        enum st_feature feature;
        enum scope scope;
} steps[] = {
        { { "defaults", dump_defaults }, BUILT_IN, ALL },
        { { "validate", dump_validate }, BUILT_IN, ALL },
        { { "options", dump_handler_options }, BUILT_IN, BY_HANDLER },
        { { "storage", dump_storage }, BUILT_IN, ALL },
        { { "parent", dump_parent }, BUILT_IN, ALL },
        { { "find PID", dump_find_pid }, BUILT_IN, PROCESS },
        { { "type", NULL }, ST_FEATURE_dump_middleware, ALL },
        { { "lock", dump_lock_tree }, BUILT_IN, ALL },
        { { "memory", dump_lazy }, BUILT_IN, ALL },
        { { "analyse", dump_analyse }, BUILT_IN, ALL },
        { { "orphans", dump_orphans }, BUILT_IN, BY_CRIU },
        { { "terminal", dump_terminal }, BUILT_IN, BY_CRIU },
        { { "fill state", dump_fill_state }, BUILT_IN, ALL },
        { { "preflight", dump_preflight }, BUILT_IN, BY_CRIU },
        { { "external files", dump_external_files }, BUILT_IN, BY_CRIU },
        { { "file locks", dump_file_locks }, BUILT_IN, ALL },
        { { "check CRIU", dump_check_criu }, BUILT_IN, BY_CRIU },
        { { "network options", dump_network }, BUILT_IN, ALL },
        { { "keep frozen", dump_keep_frozen }, BUILT_IN, BY_CRIU },
        { { "cgroups", dump_cgroups }, BUILT_IN, BY_CRIU },
        { { "save state", dump_save_state }, BUILT_IN, ALL },
        { { "hooks", dump_hooks }, BUILT_IN, ALL },
        { { "files", dump_files }, BUILT_IN, BY_CRIU },
        { { "images", dump_images }, BUILT_IN, BY_HANDLER },
        { { "CRIU", dump_criu }, ST_FEATURE_dump_handler, ALL },
};

bool dump_forced_off(const struct st_dump *dump, const char *option) {
        return request_is_off(dump->req->off, dump->req->n_off, option);
}

static bool is_in_scope(enum scope scope, const char *type, bool handled) {
        switch (scope) {
        case PROCESS:
                return streq(type, "process");
        case BY_CRIU:
                return !handled;
        case BY_HANDLER:
                return handled;
        default:
                return true;
        }
}

/** Adds the steps for a type; for one that is not built in, the plugin's adapters and handler in their places. */
static int build_chain(struct chain *chain, const char *type, struct st_error **err) {
        bool handled = chain_has_feature(ST_FEATURE_dump_handler, type);

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                const struct dump_step *step = &steps[i];
                int r = -EOPNOTSUPP;

                if (!is_in_scope(step->scope, type, handled))
                        continue;
                if (step->feature != BUILT_IN)
                        r = chain_add_feature(chain, step->feature, type, err);
                if (r == -EOPNOTSUPP)
                        r = step->adapter.run ? chain_add_dump(chain, NULL, &step->adapter, err) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

int engine_dump(struct st_operation *operation, Daemon__DumpReq *req, Daemon__DumpResp *resp, struct st_error **err) {
        if (req->has_action && req->action == DAEMON__DUMP_ACTION__FREEZE_ONLY)
                return engine_freeze(operation, req, resp, err);
        if (req->has_action && req->action == DAEMON__DUMP_ACTION__UNFREEZE_ONLY)
                return engine_unfreeze(operation, req, resp, err);
        if (!req->type)
                req->type = xstrdup("process");
        if (!req->criu)
                req->criu = message_new(&criu__criu_opts__descriptor);

        _cleanup_(message_freep) Criu__CriuOpts *given = message_copy(&req->criu->base);
        struct dump_context context = {
                .dump = {
                        .size = sizeof(struct st_dump),
                        .operation = operation,
                        .req = req,
                        .resp = resp,
                        .criu = req->criu,
                        .given = given,
                },
                .images_fd = -EBADF,
        };
        struct chain chain = { .operation = operation };
        int r;

        r = build_chain(&chain, req->type, err);
        if (r >= 0)
                r = chain_run_dump(&chain, &context.dump, err);

        process_analysis_free(context.analysis);
        criu_binary_free(context.criu);
        free(context.dump.destination);
        free(context.partial);
        dump_images_clear(&context);
        strv_clear(&context.terminals);
        free(context.state);
        return r;
}
