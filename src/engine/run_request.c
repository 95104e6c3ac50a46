/* SPDX-License-Identifier: Apache-2.0 */

/* Adapters of run and manage for the request: defaults, validation, PID file, streams, cgroup. */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "engine/job_cgroup.h"
#include "engine/operation.h"
#include "engine/pid_file.h"
#include "engine/request.h"
#include "engine/run_context.h"
#include "process/proc.h"

/* Of a client that sends no mask; the daemon's own lets nobody else read anything. */
#define UMASK_DEFAULT 0022

uid_t run_uid(const struct st_run *run) {
        return run->req->has_uid ? run->req->uid : st_operation_uid(run->operation);
}

gid_t run_gid(const struct st_run *run) {
        return run->req->has_gid ? run->req->gid : st_operation_gid(run->operation);
}

void run_message(struct st_run *run, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        message_append(&run->resp->n_messages, &run->resp->messages, xvasprintf(format, ap));
        va_end(ap);
}

int run_defaults(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        Daemon__RunReq *req = run->req;

        if (!req->details)
                req->details = message_new(&daemon__details__descriptor);
        if (!req->has_umask) {
                req->has_umask = 1;
                req->umask = UMASK_DEFAULT;
        }
        return st_run_proceed(next, run, err);
}

int run_validate(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        static const enum st_feature features[] = { ST_FEATURE_run_handler, ST_FEATURE_run_handler_no_server,
                                                    ST_FEATURE_COUNT };
        const Daemon__RunReq *req = run->req;
        int r = request_check_type("run", req->type, features, err);

        if (r < 0)
                return r;
        if (req->has_action && req->action != DAEMON__RUN_ACTION__START_NEW)
                return st_error_set(err, EINVAL, "Action: Run starts something new; Manage takes over what runs");
        if (req->gpuenabled || req->gputracing || !isempty(req->gpuid))
                return st_error_set(err, EOPNOTSUPP, "GPUEnabled: GPUs are not supported");
        if (req->terminal && !req->attachable)
                return st_error_set(err, EINVAL, "Terminal: only an attachable job has one, and Attachable is not set");
        if (req->umask > 0777)
                return st_error_set(err, EINVAL, "Umask: %o is more than 0777", req->umask);
        return st_run_proceed(next, run, err);
}

int run_pid_file(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        _cleanup_free_ char *path = NULL, *problem = NULL;
        int r = pid_file_prepare(run->req->pidfile, &path, err);

        if (r >= 0)
                r = st_run_proceed(next, run, err);
        if (r < 0)
                return r;
        problem = pid_file_write(path, run->pid, run_uid(run), run_gid(run));
        if (problem)
                run_message(run, "%s", problem);
        return 0;
}

static int make_stdio(struct st_run *run, struct job_stdio *stdio, struct st_error **err) {
        const Daemon__RunReq *req = run->req;

        if (req->attachable) /* whoever takes our ends writes the log, too */
                return req->terminal ? job_stdio_make_terminal(req->terminal, NULL, 0, stdio, err)
                                     : job_stdio_make_pipes(stdio, err);
        if (!isempty(req->log))
                return job_stdio_use_log(stdio, req->log, run_uid(run), run_gid(run), err);
        return st_operation_no_server(run->operation) ? job_stdio_inherit(stdio, err) : 0;
}

int run_stdio(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        struct job_stdio *stdio = &run_context(run)->stdio;
        int r = make_stdio(run, stdio, err);

        if (r < 0)
                return r;
        for (int i = 0; i < 3; i++)
                run->stdio[i] = stdio->job[i];
        run->terminal = stdio->terminal;
        r = st_run_proceed(next, run, err);
        job_stdio_close_job(stdio); /* the end of its output is told by nobody's having it open */
        return r;
}

int run_cgroup(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        const Stasis__V1__JobSpec *job = operation_job(run->operation);
        struct run_context *context = run_context(run);
        _cleanup_error_ struct st_error *problem = NULL;
        int r;

        if (!job || isempty(job->jid))
                return st_run_proceed(next, run, err);
        if (job_cgroup_make(job->jid, &context->cgroups, &problem) < 0)
                run_message(run, "the job has no cgroup of its own: %s", st_error_message(problem));
        run->cgroups = context->cgroups.items;
        r = st_run_proceed(next, run, err);
        if (r < 0)
                (void)job_cgroup_remove(job->jid);
        return r;
}

int run_result(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        int r = st_run_proceed(next, run, err);

        if (r >= 0 && run->pid <= 0)
                return st_error_set(err, EPROTO, "the handler of type %s has no process", run->req->type);
        return r;
}
