/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Shared by workers.c (the queue) and worker_process.c (one worker). */

#include "base/text.h"
#include "daemon/channel.h"
#include "daemon/workers.h"

struct worker {
        struct workers *workers;
        struct worker *next, **link; /* in workers->list, in the order of their coming */
        char *id, *work_dir;
        struct worker_task task;
        bool queued;
        int cancelled; /* an errno, while it is queued */
        time_t started;
        uint64_t started_usec; /* of the loop's CLOCK_MONOTONIC */
        pid_t pid;
        int pidfd, socket;
        sd_event_source *io;
        sd_event_source *patience; /* from its cancelling on; at its end it is killed */
        struct channel_buffer input;
        struct worker_events events;
        void *userdata;
        Stasis__V1__Profile *profile;
        char *adapter, *plugin;         /* where it is, for the message of a crash */
        Stasis__Worker__Result *result; /* once it came */
        Stasis__Worker__Report *result_report;
        bool closed, exited;
        bool deaf; /* it was killed for not reacting to its cancelling */
        int status;
};

struct workers {
        sd_event *loop;
        char *config; /* JSON */
        int log_level;
        uint64_t patience_us; /* how long a cancelled worker may roll back */
        struct worker *list, **tail;
        size_t n;
        size_t heavy, light; /* how many run */
        size_t heavy_max;
        unsigned sequence;
        sd_event_source *turn;  /* enabled once when the queue is to be looked at */
        sd_event_source *timer; /* while there are stale work directories */
        struct strv stale;      /* work directories that were still in use when their worker died */
        void (*ended)(const struct worker_ended *ended, void *userdata);
        void *ended_userdata;
        bool has_limit;
        struct rlimit limit_nofile;
};

/** Dumps and restores, of which there are not to be many at once. */
bool worker_is_heavy(const struct worker *worker);

uint64_t workers_now_usec(const struct workers *workers);

/** Its turn: makes its directory, asks `begin`, spawns it. On failure worker_end() is to follow. */
int worker_launch(struct worker *worker, struct st_error **err);

/** Tells a running worker to cancel. */
void worker_tell(struct worker *worker, int number);

/** The end: tells it, cleans up, frees the worker. @param error taken; NULL: what the worker's result says */
void worker_end(struct worker *worker, struct st_error *error);

/** The end is known when the result is here, or the process is gone and its socket read to the end. */
void worker_check_end(struct worker *worker);

/** Takes it out of the list and frees it. */
void worker_free(struct worker *worker);

/** Has the queue looked at, from the loop. */
void workers_kick(struct workers *workers);
