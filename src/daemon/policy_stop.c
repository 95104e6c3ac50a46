/* SPDX-License-Identifier: Apache-2.0 */

/* `daemon stop --checkpoint`: what has a policy is dumped and ended, and goes on at the next start. */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "daemon/jobs_private.h"
#include "daemon/policy_private.h"

#define WITHIN_MAX_MS (365ULL * 86400000)

struct policy_stop {
        struct policies *policies;
        struct strv messages;
        struct stopping {
                struct policy_stop *stop;
                char *jid;
                char *id; /* of its dump; by this it is cancelled: the worker can be gone before the dump has ended */
        } * jobs;
        size_t n, left;
        bool late; /* the time is over */
        bool told; /* `done` was called */
        sd_event_source *timer, *end;
        void (*done)(char **messages, size_t n_messages, void *userdata);
        void *userdata;
};

static int on_all_ended(sd_event_source *source, void *userdata) {
        struct policy_stop *stop = userdata;
        struct strv messages = stop->messages;

        (void)source;
        stop->messages = (struct strv){ 0 };
        stop->told = true;
        stop->done(messages.items, messages.n, stop->userdata);
        return 0;
}

void policy_stop_clear(struct policies *policies) {
        struct policy_stop *stop = policies->stop;

        if (!stop)
                return;
        if (!stop->told) /* the daemon ends before: whoever waits is not left behind */
                (void)on_all_ended(NULL, stop);
        for (size_t i = 0; i < stop->n; i++) {
                free(stop->jobs[i].jid);
                free(stop->jobs[i].id);
        }
        free(stop->jobs);
        sd_event_source_disable_unref(stop->timer);
        sd_event_source_disable_unref(stop->end);
        strv_clear(&stop->messages);
        free(stop);
        policies->stop = NULL;
}

/** Whoever waits is told from the loop: never from inside what is called to begin. */
static void check_end(struct policy_stop *stop) {
        if (stop->left == 0 && !stop->end)
                (void)sd_event_add_defer(stop->policies->loop, &stop->end, on_all_ended, stop);
}

static bool lives(const struct stopping *stopping) {
        struct db_job job;
        bool alive;

        if (jobs_get(stopping->stop->policies->jobs, stopping->jid, &job, NULL) < 0)
                return false;
        alive = job_state_is_alive(job.state);
        db_job_clear(&job);
        return alive;
}

static void on_dump_end(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile,
                        struct st_error *error, void *userdata) {
        struct stopping *job = userdata;

        (void)profile;
        if (result)
                strv_addf(&job->stop->messages, "job %s is saved, and will go on at the next start", job->jid);
        else
                strv_addf(&job->stop->messages, "job %s %s, not saved: %s%s", job->jid,
                          lives(job) ? "runs on" : "does not run", job->stop->late ? "the time was too short: " : "",
                          st_error_message(error));
        job->stop->left--;
        check_end(job->stop);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        struct policy_stop *stop = userdata;

        (void)source;
        (void)usec;
        stop->late = true;
        for (size_t i = 0; i < stop->n; i++)
                if (stop->jobs[i].id) /* one that has ended is not found */
                        (void)workers_cancel(stop->policies->jobs->workers, stop->jobs[i].id, ETIMEDOUT, NULL);
        return 0;
}

/**
 * Those that live, also when they are just being started or restored, by whomever; and those whose restore by the
 * policy waits for its turn. The dump comes after that: operations on one job run one after the other.
 */
static int add(const struct db_job *job, void *userdata) {
        struct policy_stop *stop = userdata;
        const struct policy *policy = policy_find(stop->policies, job->spec->jid);

        if (job_state_is_alive(job->state) ? policy_is_wanted(job->spec->policy) : policy && policy->busy) {
                stop->jobs = xrealloc(stop->jobs, stop->n + 1, sizeof(*stop->jobs));
                stop->jobs[stop->n++] = (struct stopping){ .stop = stop, .jid = xstrdup(job->spec->jid) };
        }
        return 0;
}

static void begin(struct stopping *job) {
        static const struct worker_events events = { .end = on_dump_end };
        _cleanup_error_ struct st_error *error = NULL;
        struct job_caller caller = policy_caller();
        struct worker *worker;

        if (jobs_dump(job->stop->policies->jobs, STASIS__WORKER__OPERATION_KIND__DUMP,
                      policy_dump_request(job->jid, true), &caller, &events, job, &worker, &error) < 0)
                on_dump_end(NULL, NULL, error, job);
        else
                job->id = xstrdup(worker_id(worker));
}

int policies_stop(struct policies *policies, uint64_t within_ms,
                  void (*done)(char **messages, size_t n_messages, void *userdata), void *userdata,
                  struct st_error **err) {
        struct policy_stop *stop;

        if (policies->stop)
                return st_error_set(err, EBUSY, "the daemon saves its jobs already, to stop then");
        if (within_ms > WITHIN_MAX_MS)
                return st_error_set(err, EINVAL, "the time for the checkpoints must be at most 365 days");
        stop = NEW(struct policy_stop);
        stop->policies = policies;
        stop->done = done;
        stop->userdata = userdata;
        policies->stop = stop; /* from here on no policy begins anything */
        (void)db_job_each(jobs_db(policies->jobs), false, add, stop, NULL);
        stop->left = stop->n;
        for (size_t i = 0; i < stop->n; i++)
                begin(&stop->jobs[i]);
        if (within_ms > 0)
                (void)sd_event_add_time_relative(policies->loop, &stop->timer, CLOCK_MONOTONIC, within_ms * 1000, 1000,
                                                 on_timeout, stop);
        check_end(stop);
        return 0;
}
