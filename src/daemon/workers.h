/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The daemon's side of its workers: spawning one for a task, taking its reports, cancelling it, and making an error of
 * its death. Everything on the loop's thread; nothing blocks.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <systemd/sd-event.h>

#include <stasis/option.h>

#include <stasis/v1/stasis.pb-c.h>
#include <stasis/v1/worker.pb-c.h>

struct workers;
struct worker;

/** What the owner of a task wants to know. Callbacks come from the loop. */
struct worker_events {
        /** A progress report or a log line; may be NULL. */
        void (*event)(const Stasis__V1__Event *event, void *userdata);
        /**
         * The end, exactly once. Afterwards the worker handle is gone.
         *
         * @param response packed response of the API method, NULL on failure
         * @param error why it failed, NULL on success
         */
        void (*end)(const ProtobufCBinaryData *response, const Stasis__V1__Profile *profile, struct st_error *error,
                    void *userdata);
};

struct worker_task {
        Stasis__Worker__OperationKind kind;
        const char *kind_name; /* "dump" */
        char *target;          /* "process 42", for status and logs; taken */
        uint8_t *request;      /* packed; taken */
        size_t request_size;
        uid_t uid;
        gid_t gid;
        pid_t pid;       /* of the caller */
        bool privileged; /* the caller may do what root may */
        char *caller;    /* who that is, for the log; taken */
};

int workers_new(sd_event *loop, const struct st_arguments *config, struct workers **ret, struct st_error **err);

/** Tells all workers to cancel, and forgets them: they end by themselves. */
struct workers *workers_free(struct workers *workers);

/**
 * Spawns a worker. On failure `end` is not called.
 *
 * @param task its malloc'ed members are taken, also on failure
 */
int workers_start(struct workers *workers, struct worker_task *task, const struct worker_events *events, void *userdata,
                  struct worker **ret, struct st_error **err);

/**
 * Asks a worker to cancel: number is ECANCELED or ETIMEDOUT. Its `end` comes when it has rolled back; when that takes
 * longer than Cancel.KillAfter it is killed.
 */
void worker_cancel(struct worker *worker, int number);

/** @return the operation's ID; as long as the worker */
const char *worker_id(const struct worker *worker);

/**
 * Cancels an operation by its ID.
 *
 * @param uid who asks: root, or whoever asked for the operation
 * @return 0; -ENOENT or -EPERM with err
 */
int workers_cancel(struct workers *workers, const char *id, uid_t uid, struct st_error **err);

/** At the daemon's end: cancels all but restores, which go on and become supervisors. */
void workers_cancel_all(struct workers *workers);

size_t workers_count(const struct workers *workers);

/** Appends what runs to a status. */
void workers_status(const struct workers *workers, Stasis__V1__StatusResp *resp);

/**
 * Cleans what workers of an earlier daemon left, now, or as soon as nothing of them lives any more: CRIU may be rolling
 * back.
 */
void workers_clean_stale(struct workers *workers);

/** To be told of every child of the daemon that was reaped, workers or not (the daemon is a subreaper). */
void workers_child_ended(struct workers *workers, pid_t pid, int status);
