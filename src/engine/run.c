/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/run_context.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "engine/chain.h"
#include "engine/engine.h"
#include "engine/operation.h"
#include "process/proc.h"

/* In the place of this the adapters or the handler of the request's type are slotted in. */
#define BUILT_IN ST_FEATURE_COUNT

/* Which types a step is for. */
enum scope {
        ALL,
        PROCESS, /* the built-in type */
};

/* The chain of a run, outermost first. */
static const struct run_step {
        struct st_run_adapter adapter;
        enum st_feature feature;
        enum scope scope;
} steps[] = {
        { { "defaults", run_defaults }, BUILT_IN, ALL },
        { { "validate", run_validate }, BUILT_IN, ALL },
        { { "command", run_validate_process }, BUILT_IN, PROCESS },
        { { "pid file", run_pid_file }, BUILT_IN, ALL },
        { { "type, early", NULL }, ST_FEATURE_run_middleware_early, ALL },
        { { "stdio", run_stdio }, BUILT_IN, ALL },
        { { "cgroup", run_cgroup }, BUILT_IN, ALL },
        { { "type, late", NULL }, ST_FEATURE_run_middleware_late, ALL },
        { { "result", run_result }, BUILT_IN, ALL },
        { { "process", run_process }, ST_FEATURE_run_handler, ALL },
};

/** Without the daemon a type may need another handler: there nobody stays with the job but the command line. */
static int add_handler(struct chain *chain, const char *type, struct st_error **err) {
        int r = -EOPNOTSUPP;

        if (st_operation_no_server(chain->operation))
                r = chain_add_feature(chain, ST_FEATURE_run_handler_no_server, type, err);
        if (r == -EOPNOTSUPP)
                r = chain_add_feature(chain, ST_FEATURE_run_handler, type, err);
        return r;
}

static int build_chain(struct chain *chain, const char *type, struct st_error **err) {
        bool process = streq(type, "process");

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                const struct run_step *step = &steps[i];
                int r = -EOPNOTSUPP;

                if (step->scope == PROCESS && !process)
                        continue;
                if (step->feature == ST_FEATURE_run_handler)
                        r = add_handler(chain, type, err);
                else if (step->feature != BUILT_IN)
                        r = chain_add_feature(chain, step->feature, type, err);
                /* A type without a handler is refused by "validate". */
                if (r == -EOPNOTSUPP)
                        r = step->adapter.run ? chain_add_run(chain, NULL, &step->adapter, err) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

/** Says who is to be waited for, and which streams of it are ours. */
static void hand_over(struct run_context *context, struct engine_started *ret) {
        const struct st_run *run = &context->run;
        struct proc_stat stat;

        run->resp->has_pid = 1;
        run->resp->pid = (uint32_t)run->pid;
        ret->pid = run->pid;
        ret->child = run->waiter == ST_RUN_NOBODY ? 0 : run->waiter > 0 ? run->waiter : run->pid;
        if (proc_read_stat(run->pid, &stat) >= 0)
                ret->start_time = stat.start_time;
        ret->stdio = context->stdio.ours;
        context->stdio.ours = ENGINE_STDIO_NULL;
        if (engine_started_has_stdio(ret) && !isempty(run->req->log))
                ret->log = path_absolute(run->req->log);
}

int engine_run(struct st_operation *operation, Daemon__RunReq *req, Daemon__RunResp *resp, struct engine_started *ret,
               struct st_error **err) {
        if (!req->type)
                req->type = xstrdup("process");

        struct run_context context = run_context_for(operation, req, resp);
        struct chain chain = { .operation = operation };
        int r;

        *ret = ENGINE_STARTED_NULL;
        r = build_chain(&chain, req->type, err);
        if (r >= 0)
                r = chain_run_run(&chain, &context.run, err);
        if (r >= 0)
                hand_over(&context, ret);

        job_stdio_clear(&context.stdio);
        strv_clear(&context.cgroups);
        return r;
}
