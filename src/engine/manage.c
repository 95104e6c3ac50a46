/* SPDX-License-Identifier: Apache-2.0 */

/* Taking over what runs already: it is looked at, and nothing is done to it. */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/chain.h"
#include "engine/engine.h"
#include "engine/operation.h"
#include "engine/request.h"
#include "engine/run_context.h"
#include "process/parse.h"
#include "process/proc.h"
#include "process/tree.h"

/* In the place of this the handler of the request's type is slotted in. */
#define BUILT_IN ST_FEATURE_COUNT

/* The chain of a manage, outermost first. */
static const struct manage_step {
        struct st_run_adapter adapter;
        enum st_feature feature;
} steps[] = {
        { { "defaults", run_defaults }, BUILT_IN },
        { { "validate", manage_validate }, BUILT_IN },
        { { "pid file", run_pid_file }, BUILT_IN },
        { { "result", run_result }, BUILT_IN },
        { { "process", manage_process }, ST_FEATURE_manage_handler },
};

int manage_validate(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        static const enum st_feature features[] = { ST_FEATURE_manage_handler, ST_FEATURE_COUNT };
        const Daemon__RunReq *req = run->req;
        int r = request_check_type("manage", req->type, features, err);

        if (r < 0)
                return r;
        if (req->attachable || req->waitfirstmaster || req->terminal)
                return st_error_set(err, EINVAL, "what runs already has its own input and output: none to attach to");
        if (!isempty(req->log))
                return st_error_set(err, EINVAL, "what runs already has its own output: Log cannot be set");
        return st_run_proceed(next, run, err);
}

/** Processes that are nobody's job. */
static int check_process(const struct proc_stat *stat, pid_t client, struct st_error **err) {
        if (stat->flags & PROC_KERNEL_THREAD)
                return st_error_set(err, EINVAL, "process %d (%s) is a kernel thread: it cannot be a job", stat->pid,
                                    stat->command);
        if (proc_stat_is_dead(stat))
                return st_error_set(err, ESRCH,
                                    "process %d (%s) has ended already: it is a zombie, its parent %d has not reaped "
                                    "it yet",
                                    stat->pid, stat->command, stat->ppid);
        if (stat->pid == 1)
                return st_error_set(err, EINVAL, "process 1 is the machine's init: it cannot be a job");
        if (stat->pid == getpid() || stat->pid == getppid() || stat->pid == client)
                return st_error_set(err, EINVAL, "process %d (%s) is stasis itself: it cannot be a job", stat->pid,
                                    stat->command);
        return 0;
}

int manage_process(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        const Daemon__Process *process = run->req->details->process;
        _cleanup_tree_ struct tree tree = { 0 };
        struct proc_stat stat;
        int r;

        (void)next;
        if (run->req->action == DAEMON__RUN_ACTION__MANAGE_UPCOMING) {
                st_error_set(err, EOPNOTSUPP, "a process cannot be waited for before it is there: it has no name");
                st_error_hint(err, "start it with 'stasis run process', or name its PID once it runs");
                return -EOPNOTSUPP;
        }
        if (!process || !process->has_pid || process->pid == 0 || process->pid > INT32_MAX)
                return st_error_set(err, EINVAL, "the request names no process: Details.Process.PID is missing");
        r = tree_read((pid_t)process->pid, false, &tree, err); /* tells a thread from a process */
        if (r < 0)
                return r;
        if (proc_read_stat((pid_t)process->pid, &stat) < 0)
                return st_error_set(err, ESRCH, "no process %u", process->pid);
        r = check_process(&stat, operation_client(run->operation), err);
        if (r < 0)
                return r;
        run->pid = stat.pid;
        run->waiter = ST_RUN_NOBODY;
        run_context(run)->start_time = stat.start_time;
        return 0;
}

static int build_chain(struct chain *chain, const char *type, struct st_error **err) {
        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                int r = -EOPNOTSUPP;

                if (steps[i].feature != BUILT_IN)
                        r = chain_add_feature(chain, steps[i].feature, type, err);
                if (r == -EOPNOTSUPP) /* a type without a handler is refused by "validate" */
                        r = chain_add_run(chain, NULL, &steps[i].adapter, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int engine_manage(struct st_operation *operation, Daemon__RunReq *req, Daemon__RunResp *resp,
                  struct engine_started *ret, struct st_error **err) {
        if (!req->type)
                req->type = xstrdup("process");

        struct run_context context = run_context_for(operation, req, resp);
        struct chain chain = { .operation = operation };
        struct proc_stat stat;
        int r;

        context.run.manage = true;
        *ret = ENGINE_STARTED_NULL;
        r = build_chain(&chain, req->type, err);
        if (r >= 0)
                r = chain_run_run(&chain, &context.run, err);
        if (r < 0)
                return r;
        resp->has_pid = 1;
        resp->pid = (uint32_t)context.run.pid;
        ret->pid = context.run.pid;
        ret->start_time = context.start_time;
        if (ret->start_time == 0 && proc_read_stat(ret->pid, &stat) >= 0)
                ret->start_time = stat.start_time;
        return 0;
}
