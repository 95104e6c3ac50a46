/* SPDX-License-Identifier: Apache-2.0 */

/* Restore of a job: from its newest checkpoint, or one that is named. */

#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "daemon/jobs_private.h"

struct restore {
        struct job_operation operation; /* first */
        Daemon__RestoreReq *req;
        bool restoring; /* the job's state says so */
};

static void restore_free(struct restore *restore) {
        job_operation_clear(&restore->operation);
        message_freep(&restore->req);
        free(restore);
}

static int first_there(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        char **ret = userdata;

        if (access(info->path, F_OK) < 0)
                return 0;
        *ret = xstrdup(info->path);
        return 1;
}

static int choose_path(struct restore *restore, struct st_error **err) {
        const char *jid = restore->operation.jid;
        int r;

        if (!isempty(restore->req->path))
                return 0;
        free(TAKE_PTR(restore->req->path));
        r = db_checkpoint_each(restore->operation.jobs->db, jid, first_there, &restore->req->path, err);
        if (r < 0 || restore->req->path)
                return r < 0 ? r : 0;
        st_error_set(err, EBUSY, "job %s has no checkpoint to be restored from", jid);
        st_error_hint(err, "see 'stasis checkpoints %s', or name a file with --path", jid);
        return -EBUSY;
}

/** What is restored is what the job was, unless the request says otherwise. */
static Stasis__V1__JobSpec *resolve(Daemon__RestoreReq *req, const struct db_job *job) {
        Stasis__V1__JobSpec *spec = message_copy(&job->spec->base);

        message_freep(&req->details);
        req->details = spec->details ? message_copy(&spec->details->base) : message_new(&daemon__details__descriptor);
        message_set_string(&req->details->jid, NULL);
        message_set_string(&req->type, spec->type);
        if (!req->has_attachable) {
                req->has_attachable = 1;
                req->attachable = spec->attachable;
        }
        if (req->attachable && !req->terminal && spec->terminal)
                req->terminal = message_new(&daemon__terminal_size__descriptor);
        spec->has_attachable = spec->has_terminal = spec->has_managed = 1;
        spec->attachable = req->attachable;
        spec->terminal = req->attachable && req->terminal;
        spec->managed = false;
        if (!isempty(req->log))
                message_set_string(&spec->log, req->log);
        else if (job->spec->attachable && !isempty(spec->log)) /* its supervisor writes the log, not the job itself */
                message_set_string(&req->log, spec->log);
        return spec;
}

static int check_halted(const struct db_job *job, struct st_error **err) {
        const char *jid = job->spec->jid;

        if (!job_state_is_alive(job->state))
                return 0;
        if (job->state != STASIS__V1__JOB_STATE__RUNNING) {
                /* Whoever did that was killed: two operations on a job do not run at the same time. */
                st_error_set(err, EBUSY, "job %s was %s when the daemon ended, and may run yet", jid,
                             job_state_name(job->state));
                st_error_hint(err, "try again in some seconds, when that is known");
                return -EBUSY;
        }
        st_error_set(err, EBUSY, "job %s is %s, process %d", jid, job_state_name(job->state), job->pid);
        st_error_hint(err, "end it first, with 'stasis kill %s'", jid);
        return -EBUSY;
}

static int on_begin(struct worker *worker, struct worker_task *task, const char *work_dir, void *userdata,
                    struct st_error **err) {
        struct restore *restore = userdata;
        struct job_operation *operation = &restore->operation;
        const struct db_job_change change = {
                .state = STASIS__V1__JOB_STATE__RESTORING,
                .reason = operation->policy ? JOBS_BY_POLICY : "restore",
                .by_hand = !operation->policy,
                .restarted = operation->policy,
        };
        bool check = restore->req->has_check && restore->req->check;
        struct db_job job;
        int r;

        (void)worker;
        (void)work_dir;
        r = jobs_get(operation->jobs, operation->jid, &job, err);
        if (r < 0)
                return r;
        r = check ? 0 : check_halted(&job, err);
        if (r >= 0)
                r = choose_path(restore, err);
        if (r >= 0 && !check) {
                r = db_job_change(operation->jobs->db, operation->jid, &change, err);
                restore->restoring = r >= 0;
                if (r < 0) {
                        st_error_wrap(err, "cannot record the restore of job %s", operation->jid);
                        (void)jobs_db_hint(operation->jobs, r, err);
                }
        }
        if (r >= 0) {
                task->spec = resolve(restore->req, &job);
                task->request = message_pack(&restore->req->base, &task->request_size);
        }
        db_job_clear(&job);
        return r;
}

static void on_end(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile, struct st_error *error,
                   void *userdata) {
        struct restore *restore = userdata;
        struct job_operation *operation = &restore->operation;

        if (restore->restoring && result) {
                _cleanup_(message_freep) Daemon__RestoreResp *resp =
                        daemon__restore_resp__unpack(NULL, result->response.len, result->response.data);

                jobs_started(operation->jobs, operation->jid, operation->id, resp ? (pid_t)resp->pid : 0, 0, "restore");
        } else if (restore->restoring && jobs_has_not_started(operation->jobs, operation->jid, operation->id,
                                                              STASIS__V1__JOB_STATE__RESTORING))
                jobs_restore_failed(operation->jobs, operation->jid, "restore failed");
        job_operation_end(operation, result, profile, error);
        restore_free(restore);
}

static void forget(void *userdata) {
        restore_free(userdata);
}

int jobs_restore(struct jobs *jobs, Daemon__RestoreReq *req, struct job_caller *caller,
                 const struct worker_events *events, void *userdata, struct worker **ret, struct st_error **err) {
        static const struct worker_events own = {
                .begin = on_begin, .event = job_operation_event, .end = on_end, .forget = forget
        };
        _cleanup_(message_freep) Daemon__RestoreReq *request = req;
        const char *jid = request->details && request->details->jid ? request->details->jid : "";
        struct restore *restore;
        int r = job_operation_check(jobs, jid, caller, err);

        if (r < 0)
                return r;

        struct worker_task task = {
                .kind = STASIS__WORKER__OPERATION_KIND__RESTORE,
                .kind_name = "restore",
        };
        restore = NEW(struct restore);
        restore->req = TAKE_PTR(request);
        *ret = job_operation_start(&restore->operation, jobs, jid, &task, caller, &own, events, userdata);
        return 0;
}
