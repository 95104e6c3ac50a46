/* SPDX-License-Identifier: Apache-2.0 */

/* Forgetting jobs that have ended, and what they left behind. */

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "daemon/jobs_private.h"
#include "engine/job_cgroup.h"

struct deletion {
        struct jobs *jobs;
        Daemon__DeleteResp *resp;
        struct st_error *error; /* of the first that failed */
        size_t cleaning;        /* up after jobs, by their plugins */
        void (*done)(Daemon__DeleteResp *resp, struct st_error *error, void *userdata);
        void *userdata;
};

/* One job whose plugin cleans up. */
struct cleaning {
        struct deletion *deletion;
        char *jid;
};

static int count(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        (void)info;
        (*(size_t *)userdata)++;
        return 0;
}

static int delete_one(struct jobs *jobs, const struct db_job *job, Daemon__DeleteResp *resp, struct st_error **err) {
        const char *jid = job->spec->jid;
        size_t n = 0;
        int r;

        (void)db_checkpoint_each(jobs->db, jid, count, &n, NULL);
        n += checkpoints_unsettled(jobs, jid); /* they become known as the others, without the job */
        /* What is left of its processes belongs to no job: another daemon would adopt it. */
        if (job->record) {
                r = supervisors_disown(jobs->supervisors, job->record);
                if (r < 0)
                        return st_error_errno(err, r, "cannot change the record of job %s", jid);
        }
        r = jobs_db_hint(jobs, db_job_delete(jobs->db, jid, err), err);
        if (r < 0)
                return r;
        (void)job_cgroup_remove(jid);
        jobs_tell(jobs, jid);
        message_append(&resp->n_messages, &resp->messages,
                       n == 0   ? xasprintf("deleted job %s", jid)
                       : n == 1 ? xasprintf("deleted job %s; its checkpoint is kept", jid)
                                : xasprintf("deleted job %s; its %zu checkpoints are kept", jid, n));
        return 0;
}

static int check_ended(struct jobs *jobs, const struct db_job *job, struct st_error **err) {
        const char *jid = job->spec->jid;

        if (job_state_is_alive(job->state)) {
                st_error_set(err, EBUSY, "job %s is %s, process %d", jid, job_state_name(job->state), job->pid);
                st_error_hint(err, "end it first, with 'stasis kill %s'", jid);
                return -EBUSY;
        }
        if (workers_have_job(jobs->workers, jid) || workers_have_stale_job(jobs->workers, jid))
                return st_error_set(err, EBUSY, "an operation on job %s runs", jid);
        return 0;
}

/** The last of them makes the end. */
static void cleaned(struct deletion *deletion) {
        _cleanup_error_ struct st_error *error = NULL;

        if (--deletion->cleaning > 0)
                return;
        error = deletion->error;
        if (error)
                message_freep(&deletion->resp);
        deletion->done(error ? NULL : deletion->resp, error, deletion->userdata);
        free(deletion);
}

/** The daemon itself ends: the job stays. */
static void forget(void *userdata) {
        struct cleaning *cleaning = userdata;
        struct deletion *deletion = cleaning->deletion;

        if (!deletion->error)
                st_error_set(&deletion->error, ECANCELED, "the daemon ends");
        free(cleaning->jid);
        free(cleaning);
        cleaned(deletion);
}

static void on_cleaned(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile, struct st_error *error,
                       void *userdata) {
        struct cleaning *cleaning = userdata;
        struct deletion *deletion = cleaning->deletion;
        struct st_error **err = deletion->error ? NULL : &deletion->error;
        struct db_job job;

        (void)result;
        (void)profile;
        if (error)
                message_append(&deletion->resp->n_messages, &deletion->resp->messages,
                               xasprintf("warning: something of job %s may be left: %s", cleaning->jid,
                                         st_error_message(error)));
        if (jobs_get(deletion->jobs, cleaning->jid, &job, err) >= 0) {
                (void)delete_one(deletion->jobs, &job, deletion->resp, err);
                db_job_clear(&job);
        }
        free(cleaning->jid);
        free(cleaning);
        cleaned(deletion);
}

/** One that has ended. What its type leaves behind is the plugin's to remove. */
static void delete_ended(struct deletion *deletion, const struct db_job *job, const struct job_caller *caller) {
        struct cleaning *cleaning;

        if (streq(job->spec->type, "process")) {
                (void)delete_one(deletion->jobs, job, deletion->resp, &deletion->error);
                return;
        }
        cleaning = NEW(struct cleaning);
        cleaning->deletion = deletion;
        cleaning->jid = xstrdup(job->spec->jid);
        deletion->cleaning++;
        jobs_ask_plugin(deletion->jobs, STASIS__WORKER__OPERATION_KIND__CLEANUP, "cleanup", cleaning->jid, job->spec,
                        caller, on_cleaned, forget, cleaning);
}

void jobs_delete(struct jobs *jobs, char *const *jids, size_t n_jids, struct job_caller *caller,
                 void (*done)(Daemon__DeleteResp *resp, struct st_error *error, void *userdata), void *userdata) {
        const struct job_caller lent = *caller;
        _cleanup_free_ __attribute__((unused)) char *text = TAKE_PTR(caller->text);
        struct deletion *deletion = NEW(struct deletion);
        _cleanup_strv_ struct strv chosen = { 0 };

        deletion->jobs = jobs;
        deletion->resp = message_new(&daemon__delete_resp__descriptor);
        deletion->done = done;
        deletion->userdata = userdata;
        deletion->cleaning = 1;
        (void)jobs_choose(jobs, jids, n_jids, false, &chosen, &deletion->error);
        for (size_t i = 0; i < chosen.n && !deletion->error; i++) {
                struct db_job job;

                if (jobs_get(jobs, chosen.items[i], &job, &deletion->error) < 0)
                        break;
                if (check_ended(jobs, &job, n_jids == 0 ? NULL : &deletion->error) >= 0)
                        delete_ended(deletion, &job, &lent);
                else if (n_jids == 0)
                        message_append(
                                &deletion->resp->n_messages, &deletion->resp->messages,
                                xasprintf("job %s is kept: it is %s", chosen.items[i], job_state_name(job.state)));
                db_job_clear(&job);
        }
        cleaned(deletion);
}
