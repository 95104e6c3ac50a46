/* SPDX-License-Identifier: Apache-2.0 */

/* Signals to jobs, and forgetting them. */

#include <signal.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "daemon/jobs_private.h"
#include "engine/job_cgroup.h"
#include "process/proc.h"

static int collect(const struct db_job *job, void *userdata) {
        strv_add(userdata, job->spec->jid);
        return 0;
}

/** Those that are named, else all. */
static int choose(struct jobs *jobs, char *const *jids, size_t n_jids, bool alive, struct strv *ret,
                  struct st_error **err) {
        if (n_jids == 0)
                return db_job_each(jobs->db, alive, collect, ret, err);
        for (size_t i = 0; i < n_jids; i++)
                strv_add(ret, jids[i]);
        return 0;
}

/** @return 1 sent, 0 there is nobody any more, -errno with err */
static int send_signal(const struct db_job *job, int sig, struct st_error **err) {
        _cleanup_close_ int pidfd = job->pid > 0 ? pidfd_open(job->pid, 0) : -EBADF;

        if (pidfd < 0 || !proc_is_alive(job->pid, job->start_time))
                return 0;
        if (pidfd_send_signal(pidfd, sig, NULL, 0) >= 0)
                return 1;
        return errno == ESRCH ? 0
                              : st_error_errno(err, errno, "cannot send signal %d to job %s (process %d)", sig,
                                               job->spec->jid, job->pid);
}

static char *say(const struct db_job *job, int sig) {
        const char *name = sigabbrev_np(sig);

        if (sig == SIGKILL)
                return xasprintf("killed job %s (process %d)", job->spec->jid, job->pid);
        return name ? xasprintf("sent SIG%s to job %s (process %d)", name, job->spec->jid, job->pid)
                    : xasprintf("sent signal %d to job %s (process %d)", sig, job->spec->jid, job->pid);
}

static void mark_killed(struct jobs *jobs, const struct db_job *job, int sig) {
        const struct db_job_change change = { .state = job->state, .killed = sig };

        (void)jobs_change(jobs, job->spec->jid, &change);
}

static int kill_one(struct jobs *jobs, const char *jid, int sig, Daemon__KillResp *resp, struct st_error **err) {
        struct db_job job;
        int r = jobs_get(jobs, jid, &job, err);

        if (r < 0)
                return r;
        if (job.state == STASIS__V1__JOB_STATE__RUNNING) {
                /* First: a policy must not take its end for an accident. */
                mark_killed(jobs, &job, sig);
                r = send_signal(&job, sig, err);
        }
        if (r > 0)
                message_append(&resp->n_messages, &resp->messages, say(&job, sig));
        else if (r == 0)
                message_append(&resp->n_messages, &resp->messages,
                               xasprintf("nothing to kill: job %s is %s", jid, job_state_name(job.state)));
        db_job_clear(&job);
        return r;
}

int jobs_kill(struct jobs *jobs, char *const *jids, size_t n_jids, int sig, Daemon__KillResp *resp,
              struct strv *ret_jids, struct st_error **err) {
        _cleanup_strv_ struct strv chosen = { 0 };
        int r;

        if (sig < 0 || sig > SIGRTMAX)
                return st_error_set(err, EINVAL, "there is no signal %d", sig);
        r = choose(jobs, jids, n_jids, true, &chosen, err);
        /* A name that is wrong must not stop half-way. */
        for (size_t i = 0; i < chosen.n && r >= 0; i++)
                if (!db_job_exists(jobs->db, chosen.items[i])) {
                        struct db_job job;

                        r = jobs_get(jobs, chosen.items[i], &job, err);
                }
        for (size_t i = 0; i < chosen.n && r >= 0; i++) {
                r = kill_one(jobs, chosen.items[i], sig > 0 ? sig : SIGKILL, resp, err);
                strv_add(ret_jids, chosen.items[i]);
        }
        if (r >= 0 && chosen.n == 0)
                message_append(&resp->n_messages, &resp->messages, xstrdup("nothing to kill: no job runs"));
        return r < 0 ? r : 0;
}

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
        if (workers_have_job(jobs->workers, jid))
                return st_error_set(err, EBUSY, "an operation on job %s runs", jid);
        return 0;
}

int jobs_delete(struct jobs *jobs, char *const *jids, size_t n_jids, Daemon__DeleteResp *resp, struct st_error **err) {
        _cleanup_strv_ struct strv chosen = { 0 };
        int r = choose(jobs, jids, n_jids, false, &chosen, err);

        for (size_t i = 0; i < chosen.n && r >= 0; i++) {
                struct db_job job;

                r = jobs_get(jobs, chosen.items[i], &job, err);
                if (r < 0)
                        break;
                r = check_ended(jobs, &job, n_jids == 0 ? NULL : err);
                if (r >= 0)
                        r = delete_one(jobs, &job, resp, err);
                else if (n_jids == 0) {
                        message_append(
                                &resp->n_messages, &resp->messages,
                                xasprintf("job %s is kept: it is %s", chosen.items[i], job_state_name(job.state)));
                        r = 0;
                }
                db_job_clear(&job);
        }
        return r < 0 ? r : 0;
}
