/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Jobs: what the daemon knows of them, and what it does with them. The one object, `struct jobs`, ties together the
 * database (what is recorded), the supervisors' records (what happened while nobody recorded), the processes that have
 * no supervisor, and the workers that run operations on jobs. One thread, the loop's; nothing blocks.
 *
 * A job's state changes in three places only: the beginning of an operation, its end (jobs_run.c, jobs_dump.c,
 * jobs_restore.c), and the end of its process (jobs_end.c). What cannot be recorded (a full disk) or told yet (a dump
 * that was to end the job is not over) is tried again by jobs_settle(): everything in it may run any number of times.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <systemd/sd-event.h>

#include <stasis/error.h>
#include <stasis/option.h>

#include <daemon/daemon.pb-c.h>
#include <stasis/v1/stasis.pb-c.h>

#include "base/text.h"
#include "daemon/supervisors.h"
#include "daemon/workers.h"
#include "db/db.h"

struct jobs;

/**
 * Opens the database (DB.Path) and looks at everything that an earlier daemon left; workers_clean_stale() must have
 * been called.
 *
 * @param workers, supervisors must outlive it
 */
int jobs_new(sd_event *loop, const struct st_arguments *config, struct workers *workers,
             struct supervisors *supervisors, struct jobs **ret, struct st_error **err);
struct jobs *jobs_free(struct jobs *jobs);

/** Sets who is told after each change of a job's state, its checkpoints or its policy, and of its deletion. */
void jobs_on_change(struct jobs *jobs, void (*changed)(const char *jid, void *userdata), void *userdata);

/** The database, for readers. */
struct db *jobs_db(struct jobs *jobs);

/** Every child of the daemon that was reaped: a job whose supervisor was killed is one. */
void jobs_child_ended(struct jobs *jobs, pid_t pid, int status);

/** Who asks for an operation. */
struct job_caller {
        uid_t uid;
        gid_t gid;
        pid_t pid;       /* 0: not known */
        bool privileged; /* may do what root may */
        bool policy;     /* nobody has asked: the job's policy does */
        char *text;      /* for the log; taken */
};

/*
 * Operations. Each returns the worker, queued or running, or fails at once with err (then `end` is not called). The
 * request is taken, also on failure, and so is the caller's text. `events` as for workers_start(); of its result the
 * response is what the client is to get. `events->begin` must be NULL.
 */

/** jobs_run.c: Run, and Manage. @return -EEXIST for a JID in use, -EINVAL for a bad one, -EROFS, -ENOSPC, … */
int jobs_run(struct jobs *jobs, Daemon__RunReq *req, bool manage, struct job_caller *caller,
             const struct worker_events *events, void *userdata, struct worker **ret, struct st_error **err);

/** jobs_dump.c: dump, freeze, unfreeze of Details.JID. @return -ENOENT when there is no such job */
int jobs_dump(struct jobs *jobs, Stasis__Worker__OperationKind kind, Daemon__DumpReq *req, struct job_caller *caller,
              const struct worker_events *events, void *userdata, struct worker **ret, struct st_error **err);

/** jobs_restore.c: of Details.JID. @return -ENOENT when there is no such job; later -EBUSY: it is alive */
int jobs_restore(struct jobs *jobs, Daemon__RestoreReq *req, struct job_caller *caller,
                 const struct worker_events *events, void *userdata, struct worker **ret, struct st_error **err);

/**
 * One job, after what happened to its process up to now was recorded.
 *
 * @param ret zero-initialised by the callee; db_job_clear()
 */
int jobs_get(struct jobs *jobs, const char *jid, struct db_job *ret, struct st_error **err);

/** jobs_list.c: as existing clients know it; a heap message. */
Daemon__Job *jobs_describe(const struct db_job *job);

/** jobs_list.c: all jobs, or those named; unknown ones: -ENOENT. */
int jobs_list(struct jobs *jobs, char *const *jids, size_t n_jids, Daemon__ListResp *resp, struct st_error **err);

/** jobs_list.c: all that is known of them. */
int jobs_list_infos(struct jobs *jobs, const Stasis__V1__ListJobsReq *req, Stasis__V1__ListJobsResp *resp,
                    struct st_error **err);

/**
 * jobs_kill.c: sends a signal to the root of each; none named: of all that live. Those of a SIGKILL are waited for, as
 * long as that is reasonable. What a plugin's signal does not end gets a SIGKILL then.
 *
 * @param sig 0: what ends a job: the signal that the plugin of its type names, for a process SIGKILL
 * @param done called once, also at once: with the answer, which is taken, or with the error
 */
void jobs_kill(struct jobs *jobs, char *const *jids, size_t n_jids, int sig, struct job_caller *caller,
               void (*done)(Daemon__KillResp *resp, struct st_error *error, void *userdata), void *userdata);

/**
 * jobs_delete.c: forgets jobs that do not live any more, after the plugins of their types have removed what they left
 * behind; none named: all such.
 *
 * @param done as above
 */
void jobs_delete(struct jobs *jobs, char *const *jids, size_t n_jids, struct job_caller *caller,
                 void (*done)(Daemon__DeleteResp *resp, struct st_error *error, void *userdata), void *userdata);

/**
 * jobs_wait.c: calls `done` once, from the loop, when none of the jobs lives any more, or after timeout_ms.
 *
 * @param jids copied
 * @param forget called instead of it when the daemon itself ends before
 */
void jobs_wait(struct jobs *jobs, char *const *jids, size_t n_jids, uint64_t timeout_ms, void (*done)(void *userdata),
               void (*forget)(void *userdata), void *userdata);

/** Replaces the policy of a job, in the supervisor's record, too. @return -ENOENT; errors of writing, with err */
int jobs_set_policy(struct jobs *jobs, const char *jid, const Daemon__JobPolicy *policy, struct st_error **err);

/** checkpoints.c: a checkpoint as existing clients know it; a heap message. */
Daemon__Checkpoint *checkpoint_describe(const Stasis__V1__CheckpointInfo *info);

/** checkpoints.c: by ID, else the newest of a job. @param ret NULL without err: there is none */
int checkpoints_get(struct jobs *jobs, const Daemon__GetCheckpointReq *req, Stasis__V1__CheckpointInfo **ret,
                    struct st_error **err);

/** checkpoints.c: newest first. @param jid, id NULL or empty: all */
int checkpoints_list(struct jobs *jobs, const char *jid, const char *id, Stasis__V1__ListCheckpointsResp *resp,
                     struct st_error **err);

/**
 * checkpoints_delete.c: its file, after others have taken over what they need of it, and what is known of it. Not while
 * an operation on its job runs: -EBUSY.
 *
 * @param done called once, also at once; the error is lent, NULL: it is gone
 */
void checkpoints_delete(struct jobs *jobs, const char *id, struct job_caller *caller,
                        void (*done)(struct st_error *error, void *userdata), void *userdata);

/** checkpoints_chain.c: makes a checkpoint independent of others. @param done as above */
void checkpoints_fold(struct jobs *jobs, const char *id, struct job_caller *caller,
                      void (*done)(struct st_error *error, void *userdata), void *userdata);

/** What is known of a process that once was a job's or was restored, for Attach. */
struct job_process {
        char *jid;    /* NULL: no job */
        char *record; /* the supervisor's directory; NULL: none any more */
        bool ended;
        int exit_status; /* with ended */
};

void job_process_clear(struct job_process *process);

/** jobs_list.c: the newest that had this PID. @return -ENOENT; -EBUSY when nobody can tell how it ended; with err */
int jobs_find_process(struct jobs *jobs, pid_t pid, struct job_process *ret, struct st_error **err);
