/* SPDX-License-Identifier: Apache-2.0 */

/* What a policy does: a checkpoint, after which old ones go; a restore, from the newest checkpoint that works. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "daemon/jobs_private.h"
#include "daemon/policy_private.h"

/* So many checkpoints are tried for one restore. */
#define CANDIDATES_MAX 16

/* What stands in the way for a while: tried again after 1 s, 2 s, … 64 s, for half an hour in all. */
#define RETRIES_MAX 32
#define RETRY_UNIT_MS 1000
#define RETRY_DOUBLINGS 6

struct job_caller policy_caller(void) {
        return (struct job_caller){
                .uid = 0,
                .gid = 0,
                .pid = getpid(),
                .privileged = true,
                .policy = true,
                .text = xstrdup("its policy"),
        };
}

static Daemon__Details *details_of(const char *jid) {
        Daemon__Details *details = message_new(&daemon__details__descriptor);

        details->jid = xstrdup(jid);
        return details;
}

Daemon__DumpReq *policy_dump_request(const char *jid, bool end) {
        Daemon__DumpReq *req = message_new(&daemon__dump_req__descriptor);

        req->type = xstrdup("job");
        req->details = details_of(jid);
        req->criu = message_new(&criu__criu_opts__descriptor);
        req->criu->has_leave_running = 1;
        req->criu->leave_running = !end;
        return req;
}

static void set_problem(struct policy *policy, const char *problem) {
        _cleanup_error_ struct st_error *error = NULL;

        if (db_job_set_problem(jobs_db(policy->owner->jobs), policy->jid, problem, &error) < 0)
                st_log_warning("job %s: %s", policy->jid, st_error_message(error));
}

/** The operation is over: whatever it changed was not looked at while it ran. */
static void done(struct policy *policy) {
        policy->busy = false;
        policy_update(policy->owner, policy->jid);
}

/** One that is to go. */
struct removal {
        char *jid, *path;
};

static void on_removed(struct st_error *error, void *userdata) {
        struct removal *removal = userdata;

        if (error && st_error_number(error) != -EBUSY && st_error_number(error) != -ECANCELED)
                st_log_warning("job %s: the old checkpoint %s cannot be removed: %s", removal->jid, removal->path,
                               st_error_message(error));
        free(removal->jid);
        free(removal->path);
        free(removal);
}

/**
 * Only what the policy made is its to remove: not what somebody asked for. What is in the way now, another operation on
 * the job, is not any more after the next checkpoint.
 */
static void remove_old(struct policy *policy) {
        _cleanup_(message_freep) Stasis__V1__ListCheckpointsResp *resp =
                message_new(&stasis__v1__list_checkpoints_resp__descriptor);
        struct jobs *jobs = policy->owner->jobs;
        size_t keep = 0, kept = 0;
        struct db_job job;

        if (db_job_get(jobs_db(jobs), policy->jid, &job, NULL) < 0)
                return;
        if (job.spec->policy && job.spec->policy->has_keep)
                keep = job.spec->policy->keep;
        db_job_clear(&job);
        if (keep == 0 || checkpoints_list(jobs, policy->jid, NULL, resp, NULL) < 0)
                return;
        for (size_t i = 0; i < resp->n_checkpoints; i++) {
                const Stasis__V1__CheckpointInfo *info = resp->checkpoints[i];
                struct job_caller caller;
                struct removal *removal;

                if (!info->has_scheduled || !info->scheduled || ++kept <= keep)
                        continue;
                caller = policy_caller();
                removal = NEW(struct removal);
                *removal = (struct removal){ xstrdup(policy->jid), xstrdup(info->path) };
                checkpoints_delete(jobs, info->id, &caller, on_removed, removal);
        }
}

static int on_clean(sd_event_source *source, void *userdata) {
        (void)source;
        remove_old(userdata);
        return 0;
}

static void remove_old_soon(struct policy *policy) {
        int r = policy->cleaner ? sd_event_source_set_enabled(policy->cleaner, SD_EVENT_ONESHOT)
                                : sd_event_add_defer(policy->owner->loop, &policy->cleaner, on_clean, policy);

        if (r < 0)
                st_log_error("job %s: its old checkpoints are not removed: %s", policy->jid, strerror(-r));
}

static bool job_runs(const struct policy *policy) {
        struct db_job job;
        bool runs;

        if (jobs_get(policy->owner->jobs, policy->jid, &job, NULL) < 0)
                return false;
        runs = job.state == STASIS__V1__JOB_STATE__RUNNING;
        db_job_clear(&job);
        return runs;
}

static void on_checkpoint_end(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile,
                              struct st_error *error, void *userdata) {
        struct policy *policy = userdata;

        (void)profile;
        if (result) {
                policy->failures = 0;
                set_problem(policy, NULL);
                remove_old_soon(policy);
        } else if (job_runs(policy)) { /* one that ended meanwhile is no problem of its checkpoints */
                policy->failures++;
                policy->failed = jobs_now();
                if (st_error_number(error) != -ECANCELED)
                        set_problem(policy, st_error_message(error));
        }
        done(policy);
}

void policy_begin_checkpoint(struct policy *policy) {
        static const struct worker_events events = { .end = on_checkpoint_end };
        _cleanup_error_ struct st_error *error = NULL;
        struct job_caller caller = policy_caller();
        struct worker *worker;

        policy->busy = true;
        if (jobs_dump(policy->owner->jobs, STASIS__WORKER__OPERATION_KIND__DUMP,
                      policy_dump_request(policy->jid, false), &caller, &events, policy, &worker, &error) < 0)
                on_checkpoint_end(NULL, NULL, error, policy);
}

static int add_candidate(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        struct policy *policy = userdata;

        if (access(info->path, F_OK) == 0)
                strv_add(&policy->candidates, info->path);
        return policy->candidates.n == CANDIDATES_MAX;
}

static void give_up(struct policy *policy, const char *problem) {
        st_log_error("job %s cannot be restored by its policy: %s", policy->jid, problem);
        policy->given_up = true;
        set_problem(policy, problem);
        strv_clear(&policy->candidates);
        policy->candidate = 0;
        done(policy);
}

/** Is it not the checkpoint's fault, and may be over soon? A PID or an address that is used, memory, room. */
static bool is_passing(int number) {
        switch (number) {
        case EADDRINUSE:
        case EAGAIN:
        case EBUSY:
        case EEXIST:
        case EMFILE:
        case ENFILE:
        case ENOMEM:
        case ENOSPC:
        case ETIMEDOUT:
                return true;
        default:
                return false;
        }
}

static void try_next(struct policy *policy);

static void on_restore_end(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile,
                           struct st_error *error, void *userdata) {
        struct policy *policy = userdata;

        (void)profile;
        if (result) {
                policy->restored = jobs_now();
                policy->failures = 0;
                strv_clear(&policy->candidates);
                policy->candidate = 0;
                set_problem(policy, NULL);
                done(policy);
        } else if (is_passing(-st_error_number(error)) && policy->retries < RETRIES_MAX) {
                policy->retry = jobs_now() + policy_doubled(RETRY_UNIT_MS, policy->retries, RETRY_DOUBLINGS);
                policy->retries++;
                set_problem(policy, st_error_message(error));
                done(policy);
        } else if (policy->owner->stop) { /* at its next start */
                set_problem(policy, st_error_message(error));
                done(policy);
        } else if (st_error_number(error) != -ECANCELED && ++policy->candidate < policy->candidates.n) {
                st_log_warning("job %s: the checkpoint %s cannot be restored, the one before it is tried: %s",
                               policy->jid, policy->candidates.items[policy->candidate - 1], st_error_message(error));
                try_next(policy);
        } else
                give_up(policy, st_error_message(error));
}

/** --files of a restore: what the job wrote after it will be written again. Not every engine can put files back. */
static const char *files_of(const struct policy *policy) {
        struct db_job job;
        bool process;

        if (jobs_get(policy->owner->jobs, policy->jid, &job, NULL) < 0)
                return "rollback";
        process = streq(job.spec->type, "process");
        db_job_clear(&job);
        return process ? "rollback" : "rollback,keep";
}

static void try_next(struct policy *policy) {
        static const struct worker_events events = { .end = on_restore_end };
        Daemon__RestoreReq *req = message_new(&daemon__restore_req__descriptor);
        _cleanup_error_ struct st_error *error = NULL;
        struct job_caller caller = policy_caller();
        struct worker *worker;

        req->type = xstrdup("job");
        req->details = details_of(policy->jid);
        req->path = xstrdup(policy->candidates.items[policy->candidate]);
        req->files = xstrdup(files_of(policy));
        if (jobs_restore(policy->owner->jobs, req, &caller, &events, policy, &worker, &error) < 0)
                on_restore_end(NULL, NULL, error, policy);
}

/** What a dead root has left would keep the PIDs that the restore needs, and do the work of the restored ones, too. */
static void end_remains(struct policy *policy) {
        struct db_job job;
        size_t killed;

        if (jobs_get(policy->owner->jobs, policy->jid, &job, NULL) < 0)
                return;
        killed = job_state_is_alive(job.state) ? 0 : jobs_kill_tree(policy->owner->jobs, &job);
        db_job_clear(&job);
        if (killed > 0)
                st_log_info("job %s: killed what it had left, for its restore: %zu process%s", policy->jid, killed,
                            killed == 1 ? "" : "es");
}

void policy_begin_restore(struct policy *policy) {
        _cleanup_error_ struct st_error *error = NULL;

        policy->busy = true;
        end_remains(policy);
        strv_clear(&policy->candidates);
        policy->candidate = 0;
        (void)db_checkpoint_each(jobs_db(policy->owner->jobs), policy->jid, add_candidate, policy, &error);
        if (policy->candidates.n == 0)
                give_up(policy, error ? st_error_message(error) : "it has no checkpoint");
        else
                try_next(policy);
}
