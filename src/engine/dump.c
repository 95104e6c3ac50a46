/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dump_context.h"

#include <stdarg.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "engine/chain.h"
#include "engine/engine.h"
#include "plugin/registry.h"

/* A place in the list where the adapters of the request's type are slotted in. */
enum dump_slot { BUILT_IN, TYPE_ADAPTERS, HANDLER };

/*
 * The chain of a dump, outermost first. All analysis is done before CRIU freezes anything; nothing remote happens then.
 */
static const struct dump_step {
        struct st_dump_adapter adapter;
        enum dump_slot slot;
        bool process_only; /* only for the built-in type: the type's own adapter, or of no use to others */
} steps[] = {
        { { "defaults", dump_defaults }, BUILT_IN, false },
        { { "validate", dump_validate }, BUILT_IN, false },
        { { "storage", dump_storage }, BUILT_IN, false },
        { { "find PID", dump_find_pid }, BUILT_IN, true },
        { { "type", NULL }, TYPE_ADAPTERS, false },
        { { "analyse", dump_analyse }, BUILT_IN, false },
        { { "shell job", dump_shell_job }, BUILT_IN, false },
        { { "fill state", dump_fill_state }, BUILT_IN, false },
        { { "detect io_uring", dump_detect_io_uring }, BUILT_IN, false },
        { { "external files", dump_external_files }, BUILT_IN, false },
        { { "file locks", dump_file_locks }, BUILT_IN, false },
        { { "network options", dump_network }, BUILT_IN, false },
        { { "save state", dump_save_state }, BUILT_IN, false },
        { { "check CRIU", dump_check_criu }, BUILT_IN, false },
        { { "CRIU", dump_criu }, HANDLER, false },
};

void dump_message(struct st_dump *dump, const char *format, ...) {
        va_list ap;
        va_start(ap, format);
        message_append(&dump->resp->n_messages, &dump->resp->messages, xvasprintf(format, ap));
        va_end(ap);
}

bool dump_forced_off(const struct st_dump *dump, const char *option) {
        for (size_t i = 0; i < dump->req->n_off; i++)
                if (streq(dump->req->off[i], option))
                        return true;
        return false;
}

static int add_type_adapters(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_dump_adapters *adapters = value;

        for (size_t i = 0; i < adapters->n; i++) {
                int r = chain_add_dump(userdata, plugin, &adapters->adapters[i], err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_handler(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        return chain_add_dump(userdata, plugin, value, err);
}

/** Adds the steps for a type; for one that is not built in, the plugin's adapters and handler in their places. */
static int build_chain(struct chain *chain, const char *type, struct st_error **err) {
        bool process = streq(type, "process");
        int r;

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                const struct dump_step *step = &steps[i];

                if (step->process_only && !process)
                        continue;
                if (step->slot == TYPE_ADAPTERS) {
                        r = process ? 0 : feature_if_available(dump_middleware, add_type_adapters, chain, NULL, type);
                        if (r == -EOPNOTSUPP)
                                r = 0;
                } else if (step->slot == HANDLER && !process) {
                        r = feature_if_available(dump_handler, add_handler, chain, NULL, type);
                        if (r == -EOPNOTSUPP)
                                r = chain_add_dump(chain, NULL, &step->adapter, err);
                } else
                        r = chain_add_dump(chain, NULL, &step->adapter, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int engine_dump(struct st_operation *operation, Daemon__DumpReq *req, Daemon__DumpResp *resp, struct st_error **err) {
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
