/* SPDX-License-Identifier: Apache-2.0 */

/* Run and manage: a job begins. */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/jid.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "daemon/jobs_private.h"
#include "engine/request.h"
#include "process/proc.h"

struct run {
        struct job_operation operation; /* first */
        bool manage;
};

static void run_free(struct run *run) {
        job_operation_clear(&run->operation);
        free(run);
}

static bool is_taken(const char *jid, void *userdata) {
        return db_job_exists(userdata, jid);
}

static int choose_jid(struct jobs *jobs, Daemon__RunReq *req, struct st_error **err) {
        int r;

        if (isempty(req->jid)) {
                free(req->jid);
                req->jid = jid_invent(is_taken, jobs->db);
                return 0;
        }
        r = jid_check(req->jid, err);
        if (r < 0)
                return r;
        if (!db_job_exists(jobs->db, req->jid))
                return 0;
        st_error_set(err, EEXIST, "there is a job %s already", req->jid);
        st_error_hint(err, "choose another name with --jid, or 'stasis delete %s'", req->jid);
        return -EEXIST;
}

/** /var/log/stasis-output-JID.log */
static char *default_log(const char *jid) {
        const char *dir = secure_getenv("STASIS_LOG_DIR");

        if (isempty(dir))
                dir = "/var/log";
        else
                (void)io_make_directories(dir, 0700);
        return xasprintf("%s/stasis-output-%s.log", dir, jid);
}

/** Only what is started here has an output that is ours. */
static int choose_log(Daemon__RunReq *req, bool manage, struct st_error **err) {
        char *log;

        if (isempty(req->log)) {
                if (manage)
                        return 0;
                log = default_log(req->jid);
        } else if (req->log[0] != '/')
                return st_error_set(err, EINVAL, "Log: %s is not an absolute path", req->log);
        else
                log = path_absolute(req->log);
        free(req->log);
        req->log = log;
        return 0;
}

static bool is_runc(const char *type) {
        return streq(type, "runc") || streq(type, "crun");
}

/** A new container without a name of its own has the job's: a later dump must know it. */
static void name_container(Daemon__RunReq *req) {
        if (!is_runc(req->type) && !streq(req->type, "docker"))
                return;
        if (!req->details)
                req->details = message_new(&daemon__details__descriptor);
        if (is_runc(req->type)) {
                if (!req->details->runc)
                        req->details->runc = message_new(&plugins__runc__runc__descriptor);
                if (isempty(req->details->runc->id))
                        message_set_string(&req->details->runc->id, req->jid);
        } else {
                if (!req->details->docker)
                        req->details->docker = message_new(&plugins__docker__docker__descriptor);
                if (isempty(req->details->docker->id))
                        message_set_string(&req->details->docker->id, req->jid);
        }
}

static Stasis__V1__JobSpec *make_spec(const Daemon__RunReq *req, bool manage, const struct job_caller *caller) {
        Stasis__V1__JobSpec *spec = message_new(&stasis__v1__job_spec__descriptor);

        spec->jid = xstrdup(req->jid);
        spec->type = xstrdup(req->type);
        if (req->details)
                spec->details = message_copy(&req->details->base);
        message_set_string(&spec->log, req->log);
        spec->has_attachable = spec->has_terminal = spec->has_managed = spec->has_init = 1;
        spec->attachable = !manage && req->has_attachable && req->attachable;
        spec->terminal = spec->attachable && req->terminal;
        spec->managed = manage;
        spec->init = !manage && req->has_init && req->init;
        spec->has_uid = spec->has_gid = spec->has_created = 1;
        spec->uid = caller->uid;
        spec->gid = caller->gid;
        spec->created = jobs_now();
        if (req->policy)
                spec->policy = message_copy(&req->policy->base);
        return spec;
}

/* A process or container, and who has it. */
struct claim {
        const char *type;
        const Daemon__Details *details;
        pid_t pid;       /* 0: not known */
        const char *jid; /* who claims it; NULL: nobody on record yet */
        char *owner;     /* found */
};

static bool is_same_text(const char *a, const char *b) {
        return streq(a ?: "", b ?: "");
}

/** By name; what has several of them is told by its process, once that is known. */
static bool is_same_container(const struct claim *claim, const Stasis__V1__JobSpec *spec) {
        const Daemon__Details *a = claim->details, *b = spec->details;

        if (!a || !b || !is_same_text(claim->type, spec->type))
                return false;
        if (a->runc && b->runc)
                return !isempty(a->runc->id) && is_same_text(a->runc->id, b->runc->id) &&
                       is_same_text(a->runc->root, b->runc->root);
        return a->docker && b->docker && !isempty(a->docker->id) && is_same_text(a->docker->id, b->docker->id) &&
               is_same_text(a->docker->host, b->docker->host);
}

static int find_owner(const struct db_job *job, void *userdata) {
        struct claim *claim = userdata;

        if (claim->jid && streq(claim->jid, job->spec->jid))
                return 0;
        if ((claim->pid <= 0 || job->state != STASIS__V1__JOB_STATE__RUNNING || job->pid != claim->pid ||
             !proc_is_alive(job->pid, job->start_time)) &&
            !is_same_container(claim, job->spec))
                return 0;
        claim->owner = xstrdup(job->spec->jid);
        return 1;
}

/** What runs is one job only. @return 0; -EEXIST with err; another -errno */
static int check_unclaimed(struct jobs *jobs, struct claim *claim, struct st_error **err) {
        int r = db_job_each(jobs->db, true, find_owner, claim, err);
        _cleanup_free_ char *owner = claim->owner, *id = NULL;

        if (r <= 0)
                return r;
        id = claim->pid > 0 ? xasprintf("%d", claim->pid) : request_target_id(claim->details);
        st_error_set(err, EEXIST, "%s %s is a job already: %s", claim->pid > 0 ? "process" : "container", id, owner);
        st_error_hint(err, "see 'stasis job inspect %s'", owner);
        return -EEXIST;
}

static int check_unmanaged(struct jobs *jobs, const Daemon__RunReq *req, struct st_error **err) {
        const Daemon__Process *process = req->details ? req->details->process : NULL;
        struct claim claim = { .type = req->type, .details = req->details };

        if (streq(req->type, "process"))
                claim.pid = process && process->has_pid ? (pid_t)process->pid : 0;
        return check_unclaimed(jobs, &claim, err);
}

/** Gives the job's name with the answer. @return the result to hand on; packed is what it points to */
static Stasis__Worker__Result with_jid(const struct run *run, const Stasis__Worker__Result *result,
                                       uint8_t **ret_packed, pid_t *ret_pid) {
        Stasis__Worker__Result named = *result;
        _cleanup_(message_freep) Daemon__RunResp *resp =
                daemon__run_resp__unpack(NULL, result->response.len, result->response.data);

        if (!resp)
                return named;
        message_set_string(&resp->jid, run->operation.jid);
        *ret_pid = (pid_t)resp->pid;
        *ret_packed = message_pack(&resp->base, &named.response.len);
        named.response.data = *ret_packed;
        return named;
}

/** A container may have several names: only its process tells whether it is another job's. */
static bool was_claimed(const struct run *run, const Stasis__Worker__Result *result, struct st_error **err) {
        struct claim claim = {
                .pid = run->manage && result && result->process ? (pid_t)result->process->pid : 0,
                .jid = run->operation.jid,
        };

        return claim.pid > 0 && check_unclaimed(run->operation.jobs, &claim, err) == -EEXIST;
}

static void on_end(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile, struct st_error *error,
                   void *userdata) {
        _cleanup_error_ struct st_error *claimed = NULL;
        struct run *run = userdata;
        struct job_operation *operation = &run->operation;
        _cleanup_free_ uint8_t *packed = NULL;
        Stasis__Worker__Result named;
        uint64_t start_time = 0;
        pid_t pid = 0;

        if (was_claimed(run, result, &claimed)) {
                result = NULL;
                error = claimed;
        }
        if (result) {
                named = with_jid(run, result, &packed, &pid);
                if (result->process) {
                        pid = (pid_t)result->process->pid;
                        start_time = result->process->starttime;
                }
                jobs_started(operation->jobs, operation->jid, operation->id, pid, start_time,
                             run->manage ? "manage" : "run");
        } else if (jobs_has_not_started(operation->jobs, operation->jid, operation->id,
                                        STASIS__V1__JOB_STATE__STARTING)) {
                int64_t since = jobs_now();
                struct db_job job;

                if (db_job_get(operation->jobs->db, operation->jid, &job, NULL) >= 0) {
                        since = job.since;
                        db_job_clear(&job);
                }
                jobs_empty_cgroup(operation->jobs, operation->jid, since);
                if (db_job_delete(operation->jobs->db, operation->jid, NULL) < 0)
                        jobs_settle_soon(operation->jobs);
        }
        job_operation_end(operation, result ? &named : NULL, profile, error);
        run_free(run);
}

static void forget(void *userdata) {
        run_free(userdata);
}

static int prepare(struct jobs *jobs, Daemon__RunReq *req, bool manage, const struct job_caller *caller,
                   Stasis__V1__JobSpec **ret, struct st_error **err) {
        int r;

        if (isempty(req->type))
                message_set_string(&req->type, "process");
        if (!req->has_uid && !manage) {
                req->has_uid = req->has_gid = 1;
                req->uid = caller->uid;
                req->gid = caller->gid;
        }
        r = choose_jid(jobs, req, err);
        if (r >= 0 && !manage)
                name_container(req);
        if (r >= 0)
                r = choose_log(req, manage, err);
        if (r >= 0 && manage)
                r = check_unmanaged(jobs, req, err);
        if (r < 0)
                return r;
        *ret = make_spec(req, manage, caller);
        return jobs_db_hint(jobs, db_job_add(jobs->db, *ret, err), err);
}

int jobs_run(struct jobs *jobs, Daemon__RunReq *req, bool manage, struct job_caller *caller,
             const struct worker_events *events, void *userdata, struct worker **ret, struct st_error **err) {
        static const struct worker_events own = { .event = job_operation_event, .end = on_end, .forget = forget };
        _cleanup_(message_freep) Daemon__RunReq *request = req;
        _cleanup_(message_freep) Stasis__V1__JobSpec *spec = NULL;
        struct run *run;
        int r;

        r = prepare(jobs, request, manage, caller, &spec, err);
        if (r < 0) {
                free(TAKE_PTR(caller->text));
                return r;
        }
        run = NEW(struct run);
        run->manage = manage;

        struct worker_task task = {
                .kind = manage ? STASIS__WORKER__OPERATION_KIND__MANAGE : STASIS__WORKER__OPERATION_KIND__RUN,
                .kind_name = manage ? "manage" : "run",
                .spec = TAKE_PTR(spec),
        };
        task.request = message_pack(&request->base, &task.request_size);
        *ret = job_operation_start(&run->operation, jobs, request->jid, &task, caller, &own, events, userdata);
        return 0;
}
