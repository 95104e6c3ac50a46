/* SPDX-License-Identifier: Apache-2.0 */

/* The object, its beginning and end, and what is tried again until it works. */

#include <time.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "daemon/jobs_private.h"
#include "process/host.h"
#include "process/proc.h"

/* While operations of an earlier daemon run, and while the database cannot be written. */
#define SETTLE_US 200000
#define SETTLE_UNWRITABLE_US 5000000

/*
 * Between the end of a worker's directory and its supervisor's record there is a moment when nothing is seen of a job
 * that is being started. It takes a millisecond.
 */
#define QUIET_MS 3000

int64_t jobs_now(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct db *jobs_db(struct jobs *jobs) {
        return jobs->db;
}

void jobs_on_change(struct jobs *jobs, void (*changed)(const char *jid, void *userdata), void *userdata) {
        jobs->changed = changed;
        jobs->changed_userdata = userdata;
}

void jobs_tell(struct jobs *jobs, const char *jid) {
        if (jobs->changed && jid)
                jobs->changed(jid, jobs->changed_userdata);
}

int jobs_db_hint(struct jobs *jobs, int r, struct st_error **err) {
        if (db_problem(jobs->db))
                st_error_hint(err, "the database %s cannot be written: %s",
                              st_arguments_string(jobs->config, "DB.Path"), db_problem(jobs->db));
        return r;
}

int jobs_change(struct jobs *jobs, const char *jid, const struct db_job_change *change) {
        _cleanup_error_ struct st_error *error = NULL;
        int r = db_job_change(jobs->db, jid, change, &error);

        if (r < 0) {
                st_log_warning("job %s is %s, which cannot be recorded now: %s", jid, job_state_name(change->state),
                               st_error_message(error));
                jobs_settle_soon(jobs);
        } else
                jobs_tell(jobs, jid);
        return r;
}

/** @return since when nothing was seen of it, in ms */
static uint64_t quiet_for(struct jobs *jobs, const char *jid) {
        uint64_t now = clock_ms();

        for (size_t i = 0; i < jobs->n_quiet; i++)
                if (streq(jobs->quiet[i].jid, jid))
                        return now - jobs->quiet[i].since_ms;
        GROW(jobs->quiet, jobs->n_quiet, jobs->quiet_room);
        jobs->quiet[jobs->n_quiet++] = (struct quiet){ .jid = xstrdup(jid), .since_ms = now };
        return 0;
}

static void not_quiet(struct jobs *jobs, const char *jid) {
        for (size_t i = 0; i < jobs->n_quiet; i++)
                if (streq(jobs->quiet[i].jid, jid)) {
                        free(jobs->quiet[i].jid);
                        jobs->quiet[i] = jobs->quiet[--jobs->n_quiet];
                        return;
                }
}

/** One that was being started or restored when the daemon died. @return whether that is not told yet */
static bool settle_starting(struct jobs *jobs, const struct db_job *job) {
        const char *jid = job->spec->jid;

        if (workers_have_job(jobs->workers, jid)) {
                not_quiet(jobs, jid);
                return false; /* its end will tell */
        }
        if (workers_have_stale_job(jobs->workers, jid)) {
                not_quiet(jobs, jid);
                return true;
        }
        if (quiet_for(jobs, jid) < QUIET_MS)
                return true;
        not_quiet(jobs, jid);
        if (job->state == STASIS__V1__JOB_STATE__RESTORING)
                jobs_restore_failed(jobs, jid, "interrupted");
        else {
                _cleanup_error_ struct st_error *error = NULL;

                st_log_warning("job %s was being started when the daemon ended, and never ran", jid);
                jobs_empty_cgroup(jobs, jid, job->since);
                if (db_job_delete(jobs->db, jid, &error) < 0)
                        return true;
        }
        return false;
}

/** One that runs as far as is recorded. @return whether that is not told yet */
static bool settle_running(struct jobs *jobs, const struct db_job *job) {
        const char *jid = job->spec->jid;

        if (job->record && supervisors_find(jobs->supervisors, job->record))
                return false; /* its record tells */
        if (jobs_is_watched(jobs, jid))
                return false;
        if (job->boot && !streq(job->boot, proc_boot_id()))
                return jobs_conclude(jobs, job, -1, "reboot") < 0;
        if (proc_is_alive(job->pid, job->start_time) && jobs_watch(jobs, jid, job->pid, job->start_time) >= 0)
                return false;
        return jobs_conclude(jobs, job, -1, NULL) < 0;
}

static int collect_jid(const struct db_job *job, void *userdata) {
        strv_add(userdata, job->spec->jid);
        return 0;
}

static size_t settle_rows(struct jobs *jobs) {
        _cleanup_strv_ struct strv jids = { 0 };
        _cleanup_error_ struct st_error *error = NULL;
        size_t n = 0;

        if (db_job_each(jobs->db, true, collect_jid, &jids, &error) < 0) {
                st_log_error("cannot read the jobs: %s", st_error_message(error));
                return 1;
        }
        for (size_t i = 0; i < jids.n; i++) {
                struct db_job job;

                if (db_job_get(jobs->db, jids.items[i], &job, NULL) < 0)
                        continue;
                n += job.state == STASIS__V1__JOB_STATE__RUNNING ? settle_running(jobs, &job)
                                                                 : settle_starting(jobs, &job);
                db_job_clear(&job);
        }
        return n;
}

void jobs_settle_soon(struct jobs *jobs) {
        int enabled = SD_EVENT_OFF;

        if (sd_event_source_get_enabled(jobs->timer, &enabled) >= 0 && enabled != SD_EVENT_OFF)
                return;
        (void)sd_event_source_set_time_relative(jobs->timer, db_problem(jobs->db) ? SETTLE_UNWRITABLE_US : SETTLE_US);
        (void)sd_event_source_set_enabled(jobs->timer, SD_EVENT_ONESHOT);
}

void jobs_settle(struct jobs *jobs) {
        size_t n = supervisors_settle_all(jobs->supervisors);

        n += settle_rows(jobs);
        n += checkpoints_settle(jobs);
        n += checkpoints_resume(jobs);
        n += jobs_settle_cgroups(jobs);
        if (n > 0)
                jobs_settle_soon(jobs);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        (void)source;
        (void)usec;
        jobs_settle(userdata);
        return 0;
}

static int open_database(struct jobs *jobs, struct st_error **err) {
        const char *path = st_arguments_string(jobs->config, "DB.Path");
        _cleanup_(message_freep) Daemon__Host *host = NULL;
        _cleanup_free_ char *moved = NULL;
        int r = db_open(path, &jobs->db, &moved, err);

        if (r < 0) {
                st_error_hint(err, "choose another place with --db or DB.Path");
                return r;
        }
        if (moved)
                st_log_error("the database %s was damaged: it was moved to %s, and a new one begins; jobs that run are "
                             "taken over from their supervisors, what had ended and the list of checkpoints is lost",
                             path, moved);
        if (db_problem(jobs->db))
                st_log_error("the database %s cannot be written: %s; no job can be started, dumped or restored", path,
                             db_problem(jobs->db));
        host = host_read();
        (void)db_host_seen(jobs->db, host, NULL);
        return 0;
}

int jobs_new(sd_event *loop, const struct st_arguments *config, struct workers *workers,
             struct supervisors *supervisors, struct jobs **ret, struct st_error **err) {
        struct jobs *jobs = NEW(struct jobs);
        int r;

        jobs->loop = sd_event_ref(loop);
        jobs->config = config;
        jobs->workers = workers;
        jobs->supervisors = supervisors;
        r = sd_event_add_time_relative(loop, &jobs->timer, CLOCK_MONOTONIC, 0, 10000, on_timer, jobs);
        if (r >= 0)
                r = sd_event_source_set_enabled(jobs->timer, SD_EVENT_OFF);
        if (r < 0)
                st_error_errno(err, r, "cannot make a timer");
        else
                r = open_database(jobs, err);
        if (r < 0) {
                jobs_free(jobs);
                return r;
        }
        supervisors_set_settle(supervisors, jobs_on_record, jobs);
        supervisors_scan(supervisors);
        jobs_settle(jobs);
        *ret = jobs;
        return 0;
}

struct jobs *jobs_free(struct jobs *jobs) {
        if (!jobs)
                return NULL;
        supervisors_set_settle(jobs->supervisors, NULL, NULL);
        jobs_watch_clear(jobs);
        jobs_wait_clear(jobs);
        checkpoints_clear(jobs);
        jobs_clear_cgroups(jobs);
        while (jobs->n_quiet > 0)
                free(jobs->quiet[--jobs->n_quiet].jid);
        free(jobs->quiet);
        sd_event_source_disable_unref(jobs->timer);
        db_close(jobs->db);
        sd_event_unref(jobs->loop);
        free(jobs);
        return NULL;
}

int jobs_get(struct jobs *jobs, const char *jid, struct db_job *ret, struct st_error **err) {
        int r = db_job_get(jobs->db, jid, ret, err);

        if (r < 0) {
                if (r == -ENOENT)
                        st_error_hint(err, "see 'stasis ps'");
                return r;
        }
        if (ret->state != STASIS__V1__JOB_STATE__RUNNING || proc_is_alive(ret->pid, ret->start_time))
                return 0;
        /* Its end may be on its way to us. */
        if (ret->record && supervisors_find(jobs->supervisors, ret->record))
                (void)supervisors_look(jobs->supervisors, ret->record);
        db_job_clear(ret);
        return db_job_get(jobs->db, jid, ret, err);
}

/** What a daemon without the database would adopt. */
static void write_spec(const struct db_job *job) {
        _cleanup_free_ char *dir = supervisors_directory(job->record);
        _cleanup_free_ char *path = path_join(dir, RECORD_JOB);
        _cleanup_free_ uint8_t *packed = NULL;
        size_t size;
        int r;

        if (access(path, F_OK) < 0)
                return;
        packed = message_pack(&job->spec->base, &size);
        r = io_replace_file(path, packed, size, 0600, false);
        if (r < 0)
                st_log_warning("cannot write %s: %s", path, strerror(-r));
}

int jobs_set_policy(struct jobs *jobs, const char *jid, const Daemon__JobPolicy *policy, struct st_error **err) {
        struct db_job job;
        int r = jobs_db_hint(jobs, db_job_set_policy(jobs->db, jid, policy, err), err);

        if (r < 0)
                return r;
        if (db_job_get(jobs->db, jid, &job, NULL) >= 0) {
                if (job.record && job.state == STASIS__V1__JOB_STATE__RUNNING)
                        write_spec(&job);
                db_job_clear(&job);
        }
        jobs_tell(jobs, jid);
        return 0;
}

int job_operation_check(struct jobs *jobs, const char *jid, struct job_caller *caller, struct st_error **err) {
        struct db_job job;
        int r = jobs_get(jobs, jid, &job, err);

        if (r < 0)
                free(TAKE_PTR(caller->text));
        else
                db_job_clear(&job);
        return r;
}

struct worker *job_operation_start(struct job_operation *operation, struct jobs *jobs, const char *jid,
                                   struct worker_task *task, struct job_caller *caller, const struct worker_events *own,
                                   const struct worker_events *events, void *userdata) {
        struct worker *worker;

        operation->jobs = jobs;
        operation->jid = xstrdup(jid);
        operation->events = *events;
        operation->userdata = userdata;
        operation->policy = caller->policy;
        task->target = xasprintf("job %s", jid);
        task->jid = xstrdup(jid);
        task->uid = caller->uid;
        task->gid = caller->gid;
        task->pid = caller->pid;
        task->privileged = caller->privileged;
        task->by_policy = caller->policy;
        task->caller = TAKE_PTR(caller->text);
        worker = workers_start(jobs->workers, task, own, operation);
        operation->id = xstrdup(worker_id(worker));
        return worker;
}

void jobs_ask_plugin(struct jobs *jobs, Stasis__Worker__OperationKind kind, const char *kind_name, const char *jid,
                     const Stasis__V1__JobSpec *spec, const struct job_caller *caller,
                     void (*end)(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile,
                                 struct st_error *error, void *userdata),
                     void (*forget)(void *userdata), void *userdata) {
        const struct worker_events events = { .end = end, .forget = forget };
        struct worker_task task = {
                .kind = kind,
                .kind_name = kind_name,
                .target = xasprintf("job %s", spec->jid),
                .uid = caller->uid,
                .gid = caller->gid,
                .pid = caller->pid,
                .privileged = caller->privileged,
                .caller = xstrdup(caller->text),
                .jid = xstrdup(jid),
                .spec = message_copy(&spec->base),
        };

        (void)workers_start(jobs->workers, &task, &events, userdata);
}

void job_operation_event(const Stasis__V1__Event *event, void *userdata) {
        const struct job_operation *operation = userdata;

        if (operation->events.event)
                operation->events.event(event, operation->userdata);
}

void job_operation_end(const struct job_operation *operation, const Stasis__Worker__Result *result,
                       const Stasis__V1__Profile *profile, struct st_error *error) {
        operation->events.end(result, profile, error, operation->userdata);
}

void job_operation_clear(struct job_operation *operation) {
        free(operation->jid);
        free(operation->id);
}
