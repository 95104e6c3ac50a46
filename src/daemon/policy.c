/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/policy.h"

#include <signal.h>
#include <sys/wait.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "daemon/jobs_private.h"
#include "daemon/policy_private.h"
#include "process/proc.h"

/* A checkpoint that failed is tried again after twice the interval, four times … but at least this often. */
#define CHECKPOINT_WAIT_MAX_MS 3600000
#define CHECKPOINT_DOUBLINGS 6

/* A job that dies so soon after each restore, with no new checkpoint, is restored with more and more patience. */
#define SHORT_LIFE_MS 10000
#define PATIENT_DEATHS 2
#define RESTART_DOUBLINGS 6
#define RESTART_UNIT_MS 1000

#define EVERY_MIN_MS 1000
#define EVERY_MAX_MS (365LL * 86400000)

int policy_check(const Daemon__JobPolicy *policy, struct st_error **err) {
        if (policy->has_every && policy->every != 0 && (policy->every < EVERY_MIN_MS || policy->every > EVERY_MAX_MS))
                return st_error_set(err, EINVAL, "a job's checkpoints can be 1 second to 365 days apart");
        return 0;
}

bool policy_is_wanted(const Daemon__JobPolicy *policy) {
        return policy && ((policy->has_every && policy->every > 0) || (policy->has_restart && policy->restart));
}

struct policy *policy_find(const struct policies *policies, const char *jid) {
        for (struct policy *at = policies->list; at; at = at->next)
                if (streq(at->jid, jid))
                        return at;
        return NULL;
}

static void policy_free(struct policy *policy) {
        sd_event_source_disable_unref(policy->timer);
        sd_event_source_disable_unref(policy->cleaner);
        strv_clear(&policy->candidates);
        free(policy->jid);
        free(policy);
}

static void forget(struct policies *policies, struct policy *policy) {
        struct policy **at = &policies->list;

        while (*at != policy)
                at = &(*at)->next;
        *at = policy->next;
        policy_free(policy);
}

/** The newest checkpoint counts, whoever asked for it. */
static int64_t checkpoint_due(const struct policy *policy, const struct db_job *job) {
        int64_t base = job->since, every = (int64_t)job->spec->policy->every, wait = every;

        if (job->latest && job->latest->time > base)
                base = job->latest->time;
        if (policy->failures > 0) {
                int64_t longest = every > CHECKPOINT_WAIT_MAX_MS ? every : CHECKPOINT_WAIT_MAX_MS;

                base = policy->failed;
                wait = policy_doubled(every, policy->failures, CHECKPOINT_DOUBLINGS);
                wait = wait < longest ? wait : longest;
        }
        return base + wait;
}

/** By which signal did it die? Who waits for a container tells it as a shell does. @return 0: by none */
static int death_signal(const struct db_job *job) {
        if (WIFSIGNALED(job->exit_status))
                return WTERMSIG(job->exit_status);
        if (streq(job->spec->type, "process") || WEXITSTATUS(job->exit_status) <= 128)
                return 0;
        return WEXITSTATUS(job->exit_status) - 128;
}

/** Did it die as nobody wanted? */
static bool died(const struct db_job *job) {
        if (job->state == STASIS__V1__JOB_STATE__EXITED) {
                int number = death_signal(job);
                return number > 0 && number != job->killed;
        }
        /* Of a process that was never our child it is not known whether it just ended, unless the machine did. */
        return job->state == STASIS__V1__JOB_STATE__LOST && job->killed == 0 &&
               (!job->spec->managed || !job->boot || !streq(job->boot, proc_boot_id()));
}

static bool may_restart(const struct policy *policy, const struct db_job *job) {
        const Daemon__JobPolicy *rules = job->spec->policy;

        if (!rules->has_restart || !rules->restart || !died(job) || policy->given_up)
                return false;
        return !rules->has_restartmax || rules->restartmax == 0 || job->restarts < rules->restartmax;
}

static int64_t restart_due(struct policy *policy, const struct db_job *job) {
        bool soon = policy->restored > 0 && job->since - policy->restored < SHORT_LIFE_MS &&
                    !(job->latest && job->latest->time > policy->restored);

        policy->short_lives = soon ? policy->short_lives + 1 : 0;
        policy->restored = 0;
        if (policy->short_lives <= PATIENT_DEATHS)
                return job->since;
        return job->since + policy_doubled(RESTART_UNIT_MS, policy->short_lives - PATIENT_DEATHS, RESTART_DOUBLINGS);
}

/** What is to be done next for a job, and when; from what is recorded. */
static enum policy_task decide(struct policy *policy, const struct db_job *job, int64_t *ret_due) {
        *ret_due = 0;
        switch (job->state) {
        case STASIS__V1__JOB_STATE__RUNNING:
                policy->given_up = false;
                policy->retries = 0;
                policy->retry = 0;
                if (!job->spec->policy->has_every || job->spec->policy->every == 0)
                        return POLICY_NOTHING;
                *ret_due = checkpoint_due(policy, job);
                return POLICY_CHECKPOINT;
        case STASIS__V1__JOB_STATE__CHECKPOINTED:
                if (!job->resume || policy->given_up)
                        return POLICY_NOTHING;
                *ret_due = policy->retry ?: jobs_now();
                return POLICY_RESTORE;
        case STASIS__V1__JOB_STATE__EXITED:
        case STASIS__V1__JOB_STATE__LOST:
                if (!may_restart(policy, job))
                        return POLICY_NOTHING;
                *ret_due = policy->retry                                       ? policy->retry
                           : policy->task == POLICY_RESTORE && policy->due > 0 ? policy->due
                                                                               : restart_due(policy, job);
                return POLICY_RESTORE;
        default:
                return POLICY_NOTHING;
        }
}

static int on_due(sd_event_source *source, uint64_t usec, void *userdata) {
        struct policy *policy = userdata;
        enum policy_task task = policy->task;

        (void)source;
        (void)usec;
        policy->task = POLICY_NOTHING;
        policy->due = 0;
        if (policy->busy || policy->owner->stop)
                return 0;
        if (task == POLICY_CHECKPOINT)
                policy_begin_checkpoint(policy);
        else if (task == POLICY_RESTORE)
                policy_begin_restore(policy);
        return 0;
}

static int arm(struct policy *policy) {
        int64_t wait = policy->due - jobs_now();
        uint64_t usec = wait > 0 ? (uint64_t)wait * 1000 : 0;
        int r = 0;

        if (!policy->timer)
                /* An accuracy of 0 would mean 250 ms (sd_event_add_time(3)). */
                r = sd_event_add_time_relative(policy->owner->loop, &policy->timer, CLOCK_MONOTONIC, usec, 1000, on_due,
                                               policy);
        else
                r = sd_event_source_set_time_relative(policy->timer, usec);
        return r < 0 ? r : sd_event_source_set_enabled(policy->timer, SD_EVENT_ONESHOT);
}

static struct policy *policy_add(struct policies *policies, const char *jid) {
        struct policy *policy = NEW(struct policy);

        policy->owner = policies;
        policy->jid = xstrdup(jid);
        policy->next = policies->list;
        policies->list = policy;
        return policy;
}

static void schedule(struct policy *policy, const struct db_job *job) {
        int64_t due;

        policy->task = decide(policy, job, &due);
        policy->due = due;
        if (policy->task == POLICY_NOTHING) {
                if (policy->timer)
                        (void)sd_event_source_set_enabled(policy->timer, SD_EVENT_OFF);
                return;
        }
        if (arm(policy) < 0)
                st_log_error("job %s: cannot set a timer for its policy", policy->jid);
}

void policy_update(struct policies *policies, const char *jid) {
        struct policy *policy = policy_find(policies, jid);
        struct db_job job;
        bool wanted;

        if (policies->stop || (policy && policy->busy)) /* the end of what it does looks again */
                return;
        if (db_job_get(jobs_db(policies->jobs), jid, &job, NULL) < 0) {
                if (policy)
                        forget(policies, policy);
                return;
        }
        wanted = policy_is_wanted(job.spec->policy);
        if (!wanted && policy)
                forget(policies, policy);
        else if (wanted)
                schedule(policy ?: policy_add(policies, jid), &job);
        db_job_clear(&job);
}

static int add_row(const struct db_job *job, void *userdata) {
        if (policy_is_wanted(job->spec->policy))
                strv_add(userdata, job->spec->jid);
        return 0;
}

static void on_change(const char *jid, void *userdata) {
        policy_update(userdata, jid);
}

int policies_new(sd_event *loop, struct jobs *jobs, struct policies **ret, struct st_error **err) {
        struct policies *policies = NEW(struct policies);
        _cleanup_strv_ struct strv names = { 0 };
        int r;

        policies->loop = sd_event_ref(loop);
        policies->jobs = jobs;
        r = db_job_each(jobs_db(jobs), false, add_row, &names, err);
        if (r < 0) {
                policies_free(policies);
                return r;
        }
        jobs_on_change(jobs, on_change, policies);
        for (size_t i = 0; i < names.n; i++)
                policy_update(policies, names.items[i]);
        *ret = policies;
        return 0;
}

struct policies *policies_free(struct policies *policies) {
        if (!policies)
                return NULL;
        jobs_on_change(policies->jobs, NULL, NULL);
        for (struct policy *next, *at = policies->list; at; at = next) {
                next = at->next;
                policy_free(at);
        }
        policy_stop_clear(policies);
        sd_event_unref(policies->loop);
        free(policies);
        return NULL;
}

int64_t policies_next(const struct policies *policies, const char *jid) {
        const struct policy *policy = policies ? policy_find(policies, jid) : NULL;

        return policy && policy->task == POLICY_CHECKPOINT ? policy->due : 0;
}

int policies_set(struct policies *policies, const char *jid, const Daemon__JobPolicy *policy, struct st_error **err) {
        _cleanup_(message_freep) Daemon__JobPolicy *merged = NULL;
        struct db_job job;
        int r;

        r = policy_check(policy, err);
        if (r >= 0)
                r = jobs_get(policies->jobs, jid, &job, err);
        if (r < 0)
                return r;
        merged =
                job.spec->policy ? message_copy(&job.spec->policy->base) : message_new(&daemon__job_policy__descriptor);
        db_job_clear(&job);
#define MERGE(member)                            \
        if (policy->has_##member) {              \
                merged->has_##member = 1;        \
                merged->member = policy->member; \
        }
        MERGE(every)
        MERGE(keep)
        MERGE(restart)
        MERGE(restartmax)
#undef MERGE
        return jobs_set_policy(policies->jobs, jid, merged, err);
}
