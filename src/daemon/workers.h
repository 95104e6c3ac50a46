/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The daemon's side of its workers: a queue of operations, spawning a worker for the next one, taking its reports,
 * cancelling it, and making an error of its death. Everything on the loop's thread; nothing blocks.
 *
 * Operations on one job run one after the other, in the order they came. Of dumps and restores there run at most twice
 * as many as there are cores, of all others at most WORKERS_LIGHT_MAX.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <systemd/sd-event.h>

#include <stasis/option.h>

#include <stasis/v1/stasis.pb-c.h>
#include <stasis/v1/worker.pb-c.h>

#define WORKERS_LIGHT_MAX 64

struct workers;
struct worker;

struct worker_task {
        Stasis__Worker__OperationKind kind;
        const char *kind_name; /* "dump" */
        char *target;          /* "process 42", for status and logs */
        char *type;            /* "process", to be counted; NULL: the spec's */
        uint8_t *request;      /* packed */
        size_t request_size;
        uid_t uid;
        gid_t gid;
        pid_t pid;                 /* of the caller */
        bool privileged;           /* the caller may do what root may */
        char *caller;              /* who that is, for the log */
        char *jid;                 /* of the job that it is about; NULL: of none */
        Stasis__V1__JobSpec *spec; /* Task.Job */
        char *record;              /* Task.JobRecord */
        bool by_policy;            /* nobody has asked for it: the job's policy does */
};

/** What the owner of a task wants to know. Callbacks come from the loop. */
struct worker_events {
        /**
         * Its turn has come: the last moment to change the task, or to fail. May be NULL.
         *
         * @param work_dir name of the private directory, by which is told later whether the operation still runs
         */
        int (*begin)(struct worker *worker, struct worker_task *task, const char *work_dir, void *userdata,
                     struct st_error **err);
        /** A progress report or a log line; may be NULL. */
        void (*event)(const Stasis__V1__Event *event, void *userdata);
        /**
         * The end, exactly once. Afterwards the worker handle is gone.
         *
         * @param result with the packed response of the API method; NULL on failure
         * @param error why it failed, NULL on success
         */
        void (*end)(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile, struct st_error *error,
                    void *userdata);
        /** Instead of the end, when the daemon itself ends before: frees what the end would. May be NULL. */
        void (*forget)(void *userdata);
};

int workers_new(sd_event *loop, const struct st_arguments *config, struct workers **ret, struct st_error **err);

/** Tells all workers to cancel, and forgets them: they end by themselves, and no `end` is called but `forget`. */
struct workers *workers_free(struct workers *workers);

/** Workers get this RLIMIT_NOFILE, not the daemon's own. */
void workers_set_limit_nofile(struct workers *workers, const struct rlimit *limit);

/** Is told of the end of each operation, before its owner is. */
struct worker_ended {
        const char *kind;                     /* "dump" */
        const char *type;                     /* NULL: about none */
        const Stasis__Worker__Result *result; /* NULL: it failed */
        const struct st_error *error;         /* NULL: it succeeded */
        uint64_t duration_us;                 /* without the time in the queue */
};

void workers_on_end(struct workers *workers, void (*ended)(const struct worker_ended *ended, void *userdata),
                    void *userdata);

/**
 * Queues a task; it is begun from the loop, at once when nothing is in its way.
 *
 * @param task its malloc'ed members are taken
 * @return the worker, valid until its `end`
 */
struct worker *workers_start(struct workers *workers, struct worker_task *task, const struct worker_events *events,
                             void *userdata);

/** @return the operation's ID; as long as the worker */
const char *worker_id(const struct worker *worker);

/**
 * Asks an operation to cancel. Its `end` comes later, when it has rolled back; when that takes longer than
 * Cancel.KillAfter its worker is killed. By ID: an operation's owner may wait for more than its worker, which is then
 * gone.
 *
 * @param number ECANCELED or ETIMEDOUT
 * @return 0; -ENOENT with err
 */
int workers_cancel(struct workers *workers, const char *id, int number, struct st_error **err);

/** At the daemon's end: cancels all but restores and runs, which go on and become supervisors. */
void workers_cancel_all(struct workers *workers);

/** How many operations there are, those in the queue included. */
size_t workers_count(const struct workers *workers);

/** How many of them wait. */
size_t workers_queued(const struct workers *workers);

/** Is there an operation on the job, running or queued, of this daemon? */
bool workers_have_job(const struct workers *workers, const char *jid);

/** Does an operation on the job, begun by an earlier daemon, still run? */
bool workers_have_stale_job(const struct workers *workers, const char *jid);

/** Has an operation of this daemon a work directory of that name? */
bool workers_have_work_dir(const struct workers *workers, const char *name);

/** Does an operation with a work directory of that name still run, of whose end this daemon will not be told? */
bool workers_have_stale_work_dir(const struct workers *workers, const char *name);

/** Appends what runs and what waits to a status. */
void workers_status(const struct workers *workers, Stasis__V1__StatusResp *resp);

/**
 * Cleans what workers of an earlier daemon left, now, or as soon as nothing of them lives any more: CRIU may be rolling
 * back.
 */
void workers_clean_stale(struct workers *workers);

/** To be told of every child of the daemon that was reaped, workers or not (the daemon is a subreaper). */
void workers_child_ended(struct workers *workers, pid_t pid, int status);
