/* SPDX-License-Identifier: Apache-2.0 */

/* Jobs as they are shown: to existing clients, and with all that is known of them. */

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "daemon/job_status.h"
#include "daemon/jobs_private.h"
#include "process/proc.h"

/** The command line that a job was started with; malloc'ed. */
static char *started_as(const Stasis__V1__JobSpec *spec) {
        const Daemon__Process *process = spec->details ? spec->details->process : NULL;
        _cleanup_strv_ struct strv words = { 0 };

        if (!process || isempty(process->path))
                return xstrdup("");
        strv_add(&words, process->path);
        for (size_t i = 0; i < process->n_args; i++)
                strv_add(&words, process->args[i]);
        return strv_join(&words, " ");
}

static Daemon__ProcessState *describe_process(const struct db_job *job) {
        Daemon__ProcessState *state = message_new(&daemon__process_state__descriptor);
        const char *status = job_status(job);
        bool halted = streq(status, JOB_HALTED);

        state->has_pid = state->has_isrunning = state->has_starttime = 1;
        state->pid = (uint32_t)job->pid;
        state->starttime = job->start_time;
        state->status = xstrdup(status);
        state->isrunning = !halted;
        state->cmdline = halted ? started_as(job->spec) : proc_command_line(job->pid);
        if (job->spec->details && job->spec->details->process)
                message_set_string(&state->workingdir, job->spec->details->process->workingdir);
        return state;
}

Daemon__Job *jobs_describe(const struct db_job *job) {
        Daemon__Job *described = message_new(&daemon__job__descriptor);

        described->jid = xstrdup(job->spec->jid);
        described->type = xstrdup(job->spec->type);
        described->log = xstrdup(job->spec->log ?: "");
        described->details = job->spec->details ? message_copy(&job->spec->details->base)
                                                : message_new(&daemon__details__descriptor);
        message_set_string(&described->details->jid, job->spec->jid);
        described->state = describe_process(job);
        if (described->details->process) {
                described->details->process->has_pid = 1;
                described->details->process->pid = (uint32_t)job->pid;
        }
        return described;
}

/** Brings those that are named up to date and hands each on. */
static int each_named(struct jobs *jobs, char *const *jids, size_t n_jids,
                      int (*call)(struct db_job *job, void *userdata), void *userdata, struct st_error **err) {
        for (size_t i = 0; i < n_jids; i++) {
                struct db_job job;
                int r = jobs_get(jobs, jids[i], &job, err);

                if (r < 0)
                        return r;
                r = call(&job, userdata);
                db_job_clear(&job);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int append(struct db_job *job, void *userdata) {
        Daemon__ListResp *resp = userdata;

        message_append(&resp->n_jobs, &resp->jobs, jobs_describe(job));
        return 0;
}

int jobs_list(struct jobs *jobs, char *const *jids, size_t n_jids, Daemon__ListResp *resp, struct st_error **err) {
        return n_jids > 0 ? each_named(jobs, jids, n_jids, append, resp, err)
                          : db_job_take_each(jobs->db, false, append, resp, err);
}

struct infos {
        struct jobs *jobs;
        Stasis__V1__ListJobsResp *resp;
        bool history;
};

/** Takes what is large: there may be thousands. */
static int append_info(struct db_job *job, void *userdata) {
        struct infos *infos = userdata;
        Stasis__V1__JobInfo *info = message_new(&stasis__v1__job_info__descriptor);

        info->has_state = info->has_since = info->has_pid = info->has_restarts = 1;
        info->state = job->state;
        info->since = job->since;
        info->pid = (uint32_t)job->pid;
        info->restarts = job->restarts;
        info->has_exitstatus = job->state == STASIS__V1__JOB_STATE__EXITED;
        info->exitstatus = job->exit_status;
        info->status = xstrdup(job_status(job));
        message_set_string(&info->problem, job->problem);
        info->latest = TAKE_PTR(job->latest);
        if (infos->history)
                (void)db_job_history(infos->jobs->db, job->spec->jid, info, NULL);
        info->spec = TAKE_PTR(job->spec);
        message_append(&infos->resp->n_jobs, &infos->resp->jobs, info);
        return 0;
}

int jobs_list_infos(struct jobs *jobs, const Stasis__V1__ListJobsReq *req, Stasis__V1__ListJobsResp *resp,
                    struct st_error **err) {
        struct infos infos = { .jobs = jobs, .resp = resp, .history = req->has_history && req->history };

        return req->n_jids > 0 ? each_named(jobs, req->jids, req->n_jids, append_info, &infos, err)
                               : db_job_take_each(jobs->db, false, append_info, &infos, err);
}

void job_process_clear(struct job_process *process) {
        free(process->jid);
        free(process->record);
        *process = (struct job_process){ 0 };
}

struct search {
        pid_t pid;
        char *jid;
        int64_t since;
};

static int match(const struct db_job *job, void *userdata) {
        struct search *search = userdata;

        if (job->pid != search->pid || job->since < search->since)
                return 0;
        free(search->jid);
        search->jid = xstrdup(job->spec->jid);
        search->since = job->since;
        return 0;
}

/** Of a process without a record, what the database says. */
static int find_in_database(struct jobs *jobs, pid_t pid, struct job_process *ret, struct st_error **err) {
        struct search search = { .pid = pid };
        struct db_job job;
        int r = db_job_each(jobs->db, false, match, &search, err);

        if (r < 0)
                return r;
        if (!search.jid) {
                st_error_set(err, ENOENT, "process %d is no job, nor was it restored by this daemon", pid);
                st_error_hint(err, "see 'stasis ps'");
                return -ENOENT;
        }
        ret->jid = search.jid;
        r = db_job_get(jobs->db, ret->jid, &job, err);
        if (r < 0)
                return r;
        if (job.state == STASIS__V1__JOB_STATE__EXITED) {
                ret->ended = true;
                ret->exit_status = job.exit_status;
        } else if (job.state == STASIS__V1__JOB_STATE__RUNNING) {
                r = st_error_set(err, EBUSY, "job %s cannot be attached to: %s", ret->jid,
                                 job.spec->managed ? "it ran before it became a job, with streams of its own"
                                                   : "its supervisor is gone");
                st_error_hint(err, "see 'stasis job logs %s'", ret->jid);
        } else
                r = st_error_set(err, EBUSY, "job %s does not run: it is %s", ret->jid, job_state_name(job.state));
        db_job_clear(&job);
        return r;
}

int jobs_find_process(struct jobs *jobs, pid_t pid, struct job_process *ret, struct st_error **err) {
        const struct record *record = supervisors_find_pid(jobs->supervisors, pid);
        int r;

        *ret = (struct job_process){ 0 };
        if (record && (!record->gone || record->status.exited)) {
                ret->jid = xstrdup(record->jid);
                ret->record = record->gone ? NULL : supervisors_directory(record->id);
                ret->ended = record->status.exited;
                ret->exit_status = record->status.exit_status;
                return 0;
        }
        r = find_in_database(jobs, pid, ret, err);
        if (r < 0)
                job_process_clear(ret);
        return r;
}
