/* SPDX-License-Identifier: Apache-2.0 */

/* Beginnings and ends of the processes of jobs: what records and the kernel tell becomes what is recorded. */

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/jid.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/spawn.h"
#include "daemon/jobs_private.h"
#include "engine/job_cgroup.h"
#include "process/proc.h"

/* So long after its end a job's cgroup may still hold something that goes. */
#define CGROUP_PATIENCE_S 3

/** CRIU ends what it has dumped by SIGKILL; an engine says so of a container by its exit code. */
static bool is_kill(const struct db_job *job, int status) {
        return status == -1 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
               (!streq(job->spec->type, "process") && WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGKILL);
}

/** Was it a dump that ended the job? It was asked to, has succeeded, and is younger than the job's process. */
static bool was_checkpointed(const struct db_job *job, int status) {
        const Stasis__V1__CheckpointInfo *latest = job->latest;

        return latest && is_kill(job, status) && latest->ends && latest->time >= job->since;
}

int jobs_conclude(struct jobs *jobs, const struct db_job *job, int status, const char *reason) {
        _cleanup_free_ char *how = status == -1 ? NULL : spawn_describe_status(status);
        const char *jid = job->spec->jid;
        struct db_job_change change = { .state = STASIS__V1__JOB_STATE__LOST, .reason = reason };
        int r;

        /* Whether it ended of itself or by the dump is told by how that ends. */
        if (checkpoints_ending(jobs, jid))
                return -EAGAIN;
        if (was_checkpointed(job, status))
                change = (struct db_job_change){
                        .state = STASIS__V1__JOB_STATE__CHECKPOINTED,
                        .reason = "dump",
                        /* Nobody asked for it: the daemon was about to stop, and goes on with it at its start. */
                        .resume = job->latest->scheduled,
                };
        else if (status != -1)
                change = (struct db_job_change){
                        .state = STASIS__V1__JOB_STATE__EXITED,
                        .reason = how,
                        .exit_status = status,
                };
        else if (!reason)
                change.reason = job->spec->managed ? "ended" : "its supervisor ended";
        r = jobs_change(jobs, jid, &change);
        if (r < 0)
                return r;
        st_log_info("job %s is %s (%s)", jid, job_state_name(change.state), change.reason);
        (void)job_cgroup_remove(jid);
        return 0;
}

/** A record of a job that the database does not know: that was lost. */
static int adopt(struct jobs *jobs, const struct record *record, bool ended) {
        _cleanup_(message_freep) Stasis__V1__JobSpec *spec = supervisors_read_spec(record->id);
        _cleanup_error_ struct st_error *error = NULL;
        struct db_job job = {
                .spec = spec,
                .state = !ended                  ? STASIS__V1__JOB_STATE__RUNNING
                         : record->status.exited ? STASIS__V1__JOB_STATE__EXITED
                                                 : STASIS__V1__JOB_STATE__LOST,
                .since = record->status.time * 1000,
                .pid = record->status.pid,
                .start_time = record->status.start_time,
                .boot = (char *)record->status.boot,
                .record = (char *)record->id,
                .exit_status = record->status.exit_status,
        };

        if (!spec || jid_check(spec->jid ?: "", NULL) < 0)
                return 0;
        if (db_job_adopt(jobs->db, &job, "adopted", &error) < 0) {
                st_log_warning("job %s (process %d) cannot be adopted now: %s", spec->jid, job.pid,
                               st_error_message(error));
                jobs_settle_soon(jobs);
                return -EAGAIN;
        }
        st_log_warning("job %s (process %d) was not in the database: adopted from its supervisor's record", spec->jid,
                       job.pid);
        return 0;
}

int jobs_state(struct jobs *jobs, const char *jid, Stasis__V1__JobState *ret) {
        struct db_job job;
        int r = db_job_get(jobs->db, jid, &job, NULL);

        if (r < 0)
                return r;
        *ret = job.state;
        db_job_clear(&job);
        return 0;
}

/** Its process is the one of the record from now on. */
static int change_to_running(struct jobs *jobs, const struct db_job *job, const struct record *record) {
        struct db_job_change change = {
                .state = STASIS__V1__JOB_STATE__RUNNING,
                .pid = record->status.pid,
                .start_time = record->status.start_time,
                .boot = record->status.boot,
                .record = record->id,
        };
        int r = 0;

        if (job->state == STASIS__V1__JOB_STATE__STARTING)
                change.reason = "run";
        else if (job->state == STASIS__V1__JOB_STATE__RESTORING)
                change.reason = "restore";
        else {
                change.reason = "found running";
                r = job->state == STASIS__V1__JOB_STATE__RUNNING
                            ? 0
                            : jobs_change(jobs, job->spec->jid,
                                          &(struct db_job_change){ .state = STASIS__V1__JOB_STATE__RESTORING });
        }
        return r < 0 ? r : jobs_change(jobs, job->spec->jid, &change);
}

static bool is_starting(Stasis__V1__JobState state) {
        return state == STASIS__V1__JOB_STATE__STARTING || state == STASIS__V1__JOB_STATE__RESTORING;
}

/** Does the job run as another process than the record's? */
static bool runs_elsewhere(const struct db_job *job) {
        return job->state == STASIS__V1__JOB_STATE__RUNNING && job->boot && streq(job->boot, proc_boot_id()) &&
               proc_is_alive(job->pid, job->start_time);
}

static int settle(struct jobs *jobs, const struct record *record, struct db_job *job, bool ended) {
        const struct supervisor_status *status = &record->status;
        bool own = job->record && streq(job->record, record->id);
        int r;

        if (!own || (!ended && job->state != STASIS__V1__JOB_STATE__RUNNING)) {
                /* An older life of the job, of which everything is recorded? */
                if (own ? is_starting(job->state) : !is_starting(job->state) && (ended || runs_elsewhere(job)))
                        return 0;
                r = change_to_running(jobs, job, record);
                if (r < 0)
                        return r;
                db_job_clear(job);
                r = db_job_get(jobs->db, record->jid, job, NULL);
                if (r < 0)
                        return r;
        }
        if (ended) {
                r = job->state == STASIS__V1__JOB_STATE__RUNNING
                            ? jobs_conclude(jobs, job, status->exited ? status->exit_status : -1, NULL)
                            : 0;
                return r < 0 ? r : supervisors_disown(jobs->supervisors, record->id);
        }
        /* Somebody has killed its supervisor: it is ours to look after. */
        if (record->gone && !jobs_is_watched(jobs, record->jid))
                (void)jobs_watch(jobs, record->jid, status->pid, status->start_time);
        return 0;
}

/**
 * All that the job had left has ended, too. A process that was reaped may be in its cgroup for a moment more: the
 * kernel takes it out when it has left its CPU for the last time.
 *
 * @return -EAGAIN: it is to be tried again
 */
static int remove_cgroup(struct jobs *jobs, const struct record *record) {
        Stasis__V1__JobState state;

        /* A new life of it: the cgroup is in use, or soon is. */
        if (jobs_state(jobs, record->jid, &state) >= 0 && job_state_is_alive(state))
                return 0;
        if (job_cgroup_remove(record->jid) != -EBUSY)
                return 0;
        if (jobs_now() < (record->status.time + CGROUP_PATIENCE_S) * 1000)
                return -EAGAIN;
        st_log_warning("the cgroup of job %s is kept: there is something in it", record->jid);
        return 0;
}

int jobs_on_record(const struct record *record, void *userdata) {
        struct jobs *jobs = userdata;
        const struct supervisor_status *status = &record->status;
        struct db_job job;
        bool ended;
        int r;

        if (!record->jid)
                return 0;
        if (record->over) {
                r = record->gone ? remove_cgroup(jobs, record) : 0;
                if (r < 0)
                        jobs_settle_soon(jobs);
                return r;
        }
        ended = status->exited || (record->gone && (!streq(status->boot, proc_boot_id()) ||
                                                    !proc_is_alive(status->pid, status->start_time)));
        r = db_job_get(jobs->db, record->jid, &job, NULL);
        if (r == -ENOENT)
                return adopt(jobs, record, ended);
        if (r >= 0) {
                r = settle(jobs, record, &job, ended);
                db_job_clear(&job);
        }
        if (r >= 0 && ended && record->gone)
                r = remove_cgroup(jobs, record);
        if (r < 0)
                jobs_settle_soon(jobs);
        return r;
}

void jobs_started(struct jobs *jobs, const char *jid, const char *id, pid_t pid, uint64_t start_time,
                  const char *reason) {
        struct db_job_change change = {
                .state = STASIS__V1__JOB_STATE__RUNNING,
                .reason = reason,
                .pid = pid,
                .boot = proc_boot_id(),
        };
        struct proc_stat stat;
        Stasis__V1__JobState state;

        if (supervisors_look(jobs->supervisors, id))
                return;
        /* It may have ended, and its record too. */
        if (jobs_state(jobs, jid, &state) >= 0 && !is_starting(state))
                return;
        if (start_time == 0 && proc_read_stat(pid, &stat) >= 0)
                start_time = stat.start_time;
        change.start_time = start_time;
        if (jobs_change(jobs, jid, &change) >= 0 && jobs_watch(jobs, jid, pid, start_time) < 0)
                jobs_settle(jobs);
}

bool jobs_has_not_started(struct jobs *jobs, const char *jid, const char *id, Stasis__V1__JobState state) {
        Stasis__V1__JobState now;

        if (supervisors_look(jobs->supervisors, id))
                return false;
        return jobs_state(jobs, jid, &now) < 0 || now == state;
}

void jobs_restore_failed(struct jobs *jobs, const char *jid, const char *reason) {
        _cleanup_(message_freep) Stasis__V1__JobInfo *info = message_new(&stasis__v1__job_info__descriptor);
        struct db_job_change change = { .state = STASIS__V1__JOB_STATE__LOST, .reason = reason };
        bool by_policy = false;

        int64_t since = jobs_now();

        (void)db_job_history(jobs->db, jid, info, NULL);
        for (size_t i = info->n_history; i > 0; i--) {
                const Stasis__V1__JobEvent *event = info->history[i - 1];

                if (event->state == STASIS__V1__JOB_STATE__RESTORING) {
                        by_policy = event->reason && streq(event->reason, JOBS_BY_POLICY);
                        since = event->time;
                        continue;
                }
                if (!job_state_is_alive(event->state)) {
                        change.state = event->state;
                        change.exit_status = event->exitstatus;
                        /* What the daemon wanted to go on with at its start it still does. */
                        change.resume = by_policy && event->state == STASIS__V1__JOB_STATE__CHECKPOINTED;
                }
                break;
        }
        (void)jobs_change(jobs, jid, &change);
        jobs_empty_cgroup(jobs, jid, since);
}
