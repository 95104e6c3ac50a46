/* SPDX-License-Identifier: Apache-2.0 */

/* Waiting for the end of jobs: what was killed shall be ended as far as the next command sees. */

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memory.h"
#include "daemon/jobs_private.h"

#define LOOK_EVERY_US 5000

struct waiter {
        struct jobs *jobs;
        struct waiter *next;
        struct strv jids;
        uint64_t deadline_ms;
        sd_event_source *timer;
        void (*done)(void *userdata);
        void (*forget)(void *userdata);
        void *userdata;
};

static void waiter_free(struct waiter *waiter) {
        struct waiter **at = &waiter->jobs->waiters;

        while (*at && *at != waiter)
                at = &(*at)->next;
        if (*at)
                *at = waiter->next;
        sd_event_source_disable_unref(waiter->timer);
        strv_clear(&waiter->jids);
        free(waiter);
}

void jobs_wait_clear(struct jobs *jobs) {
        while (jobs->waiters) {
                jobs->waiters->forget(jobs->waiters->userdata);
                waiter_free(jobs->waiters);
        }
}

static bool lives(struct jobs *jobs, const char *jid) {
        struct db_job job;
        bool alive;

        if (jobs_get(jobs, jid, &job, NULL) < 0)
                return false;
        alive = job_state_is_alive(job.state);
        db_job_clear(&job);
        return alive;
}

static int on_look(sd_event_source *source, uint64_t usec, void *userdata) {
        struct waiter *waiter = userdata;

        (void)usec;
        while (waiter->jids.n > 0 && clock_ms() < waiter->deadline_ms) {
                if (lives(waiter->jobs, waiter->jids.items[waiter->jids.n - 1])) {
                        (void)sd_event_source_set_time_relative(source, LOOK_EVERY_US);
                        (void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
                        return 0;
                }
                free(waiter->jids.items[--waiter->jids.n]);
                waiter->jids.items[waiter->jids.n] = NULL;
        }

        void (*done)(void *userdata) = waiter->done;
        void *done_userdata = waiter->userdata;
        waiter_free(waiter);
        done(done_userdata);
        return 0;
}

void jobs_wait(struct jobs *jobs, char *const *jids, size_t n_jids, uint64_t timeout_ms, void (*done)(void *userdata),
               void (*forget)(void *userdata), void *userdata) {
        struct waiter *waiter = NEW(struct waiter);

        waiter->jobs = jobs;
        waiter->done = done;
        waiter->forget = forget;
        waiter->userdata = userdata;
        waiter->deadline_ms = clock_ms() + timeout_ms;
        for (size_t i = 0; i < n_jids; i++)
                strv_add(&waiter->jids, jids[i]);
        waiter->next = jobs->waiters;
        jobs->waiters = waiter;
        if (sd_event_add_time_relative(jobs->loop, &waiter->timer, CLOCK_MONOTONIC, 0, 1, on_look, waiter) < 0) {
                waiter_free(waiter);
                done(userdata);
        }
}
