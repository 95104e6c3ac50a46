/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dump_context.h"

#include <stdarg.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "engine/chain.h"
#include "engine/engine.h"
#include "engine/request.h"

/* In the place of this the adapters or the handler of the request's type are slotted in. */
#define BUILT_IN ST_FEATURE_COUNT

/*
 * The chain of a dump, outermost first. All analysis is done before CRIU freezes anything; nothing remote happens then.
 */
static const struct dump_step {
        struct st_dump_adapter adapter;
        enum st_feature feature;
        bool process_only; /* only for the built-in type: the type's own adapter, or of no use to others */
} steps[] = {
        { { "defaults", dump_defaults }, BUILT_IN, false },
        { { "validate", dump_validate }, BUILT_IN, false },
        { { "storage", dump_storage }, BUILT_IN, false },
        { { "find PID", dump_find_pid }, BUILT_IN, true },
        { { "type", NULL }, ST_FEATURE_dump_middleware, false },
        { { "analyse", dump_analyse }, BUILT_IN, false },
        { { "shell job", dump_shell_job }, BUILT_IN, false },
        { { "fill state", dump_fill_state }, BUILT_IN, false },
        { { "preflight", dump_preflight }, BUILT_IN, false },
        { { "external files", dump_external_files }, BUILT_IN, false },
        { { "file locks", dump_file_locks }, BUILT_IN, false },
        { { "network options", dump_network }, BUILT_IN, false },
        { { "check CRIU", dump_check_criu }, BUILT_IN, false },
        { { "keep frozen", dump_keep_frozen }, BUILT_IN, false },
        { { "cgroups", dump_cgroups }, BUILT_IN, false },
        { { "save state", dump_save_state }, BUILT_IN, false },
        { { "hooks", dump_hooks }, BUILT_IN, false },
        { { "files", dump_files }, BUILT_IN, false },
        { { "CRIU", dump_criu }, ST_FEATURE_dump_handler, false },
};

void dump_message(struct st_dump *dump, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        message_append(&dump->resp->n_messages, &dump->resp->messages, xvasprintf(format, ap));
        va_end(ap);
}

bool dump_forced_off(const struct st_dump *dump, const char *option) {
        return request_is_off(dump->req->off, dump->req->n_off, option);
}

/** Adds the steps for a type; for one that is not built in, the plugin's adapters and handler in their places. */
static int build_chain(struct chain *chain, const char *type, struct st_error **err) {
        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                const struct dump_step *step = &steps[i];
                int r = -EOPNOTSUPP;

                if (step->process_only && !streq(type, "process"))
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

        struct dump_context context = {
                .dump = {
                        .size = sizeof(struct st_dump),
                        .operation = operation,
                        .req = req,
                        .resp = resp,
                        .criu = req->criu,
                },
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
        free(context.state);
        return r;
}
