/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Shared by the files jobs*.c and checkpoints*.c. */

#include "base/text.h"
#include "daemon/jobs.h"

struct watched;
struct waiter;
struct verification;
struct deletion;
struct emptying;

struct jobs {
        sd_event *loop;
        const struct st_arguments *config;
        struct workers *workers;
        struct supervisors *supervisors;
        struct db *db;
        void (*changed)(const char *jid, void *userdata); /* may be NULL */
        void *changed_userdata;
        sd_event_source *timer;             /* of jobs_settle() */
        struct watched *watched;            /* jobs_watch.c */
        struct waiter *waiters;             /* jobs_wait.c */
        struct verification *verifications; /* checkpoints_begun.c */
        struct deletion *deletions;         /* checkpoints_delete.c */
        struct emptying *emptying;          /* jobs_cgroup.c */
        bool checkpoints_resumed;           /* checkpoints_resume.c */
        uint64_t changes;                   /* how often checkpoints were told to have others as ancestors now */
        struct quiet {
                char *jid;
                uint64_t since_ms;
        } * quiet; /* jobs.c: jobs that were being started or restored, and nothing is seen of it any more */
        size_t n_quiet, quiet_room;
};

/** Milliseconds since 1970. */
int64_t jobs_now(void);

/** jobs.c: brings records, rows and begun checkpoints in line, as far as can be; what cannot is tried again. */
void jobs_settle(struct jobs *jobs);

/** Something of the job was recorded. */
void jobs_tell(struct jobs *jobs, const char *jid);

/** Has it called soon, from the loop. */
void jobs_settle_soon(struct jobs *jobs);

/** jobs.c: makes the change, and logs when that fails: for what has happened, whether it can be recorded or not. */
int jobs_change(struct jobs *jobs, const char *jid, const struct db_job_change *change);

/** jobs_end.c: a supervisors_settle_fn. */
int jobs_on_record(const struct record *record, void *userdata);

/**
 * jobs_end.c: the process of a RUNNING job has ended.
 *
 * @param status as of waitpid(2); -1: nobody knows
 * @param reason of a LOST one; NULL: as it is
 * @return 0 when that is recorded
 */
int jobs_conclude(struct jobs *jobs, const struct db_job *job, int status, const char *reason);

/**
 * jobs_cgroup.c: the job was not started or restored: what nobody knows of that has begun in its cgroup since then
 * (jobs_now()) is ended, and the cgroup goes. @return of the second: how many are not gone yet
 */
void jobs_empty_cgroup(struct jobs *jobs, const char *jid, int64_t since);
size_t jobs_settle_cgroups(struct jobs *jobs);
void jobs_clear_cgroups(struct jobs *jobs);

/** The reason of a restore that nobody has asked for, as it is recorded. */
#define JOBS_BY_POLICY "restart"

/** jobs_end.c: the state of a job, as it is recorded. @return 0; -ENOENT; other -errno */
int jobs_state(struct jobs *jobs, const char *jid, Stasis__V1__JobState *ret);

/**
 * jobs_end.c: of an operation that was to start the job's process and has not said that it did: has it not? What became
 * the supervisor may have been killed before it could answer; then its record has told, and may be gone by now.
 *
 * @param id of the operation
 * @param state of the job until its process runs
 */
bool jobs_has_not_started(struct jobs *jobs, const char *jid, const char *id, Stasis__V1__JobState state);

/** jobs_end.c: a job that is being restored was not: back to the state it was in before. */
void jobs_restore_failed(struct jobs *jobs, const char *jid, const char *reason);

/**
 * jobs_end.c: an operation has started the job's process. With a supervisor its record says the rest.
 *
 * @param id the operation's
 * @param start_time 0: to be found out
 * @param reason "run", "restore"
 */
void jobs_started(struct jobs *jobs, const char *jid, const char *id, pid_t pid, uint64_t start_time,
                  const char *reason);

/** jobs_watch.c: for a process without a supervisor; its end concludes the job. @return -ESRCH: it is not there */
int jobs_watch(struct jobs *jobs, const char *jid, pid_t pid, uint64_t start_time);
bool jobs_is_watched(const struct jobs *jobs, const char *jid);
void jobs_watch_clear(struct jobs *jobs);

void jobs_wait_clear(struct jobs *jobs);

/**
 * jobs_tree.c: SIGKILL to all that a job of the type process has, or to what it has left when it has ended itself: its
 * supervisor's descendants. Else they would keep the PIDs that a restore needs, and write on. Does not wait.
 *
 * @return how many it was sent to; 0 for other types, whose engines know what is theirs
 */
size_t jobs_kill_tree(struct jobs *jobs, const struct db_job *job);

/** checkpoints_begun.c: is there a dump that was begun, and is to end the job? */
bool checkpoints_ending(struct jobs *jobs, const char *jid);

/** checkpoints_begun.c: checkpoints that are there, and of whose dumps is not told yet that they had succeeded. */
size_t checkpoints_unsettled(struct jobs *jobs, const char *jid);

/** checkpoints_begun.c: looks at what interrupted dumps left. @return how many are not told yet */
size_t checkpoints_settle(struct jobs *jobs);
void checkpoints_child_ended(struct jobs *jobs, pid_t pid, int status);
void checkpoints_clear(struct jobs *jobs);

/** checkpoints.c: size, format of what is at info->path, and the rest that a begun one does not have. */
void checkpoints_complete(Stasis__V1__CheckpointInfo *info);

/** checkpoints.c: says so. @return -ENOENT */
int checkpoints_not_there(const char *id, struct st_error **err);

/** checkpoints_delete.c: is it on its way out? */
bool checkpoints_are_deleting(const struct jobs *jobs, const char *id);

/** checkpoints_chain.c: may others refer to it? As far as is on record. */
bool checkpoint_is_native(const Stasis__V1__CheckpointInfo *info);

/** checkpoints_chain.c: the parent of a job's new checkpoint, when it shall have one and none is named. */
void checkpoints_choose_parent(struct jobs *jobs, Daemon__DumpReq *req, const char *jid);

/** checkpoints_chain.c: a checkpoint that needs too many others is made independent, in the background. */
void checkpoints_limit_chain(struct jobs *jobs, const Stasis__V1__CheckpointInfo *info);

/** checkpoints_chain.c: queues what changes checkpoints: one after the other. @param task its kind, names, request */
void checkpoints_start(struct jobs *jobs, struct worker_task *task, const struct job_caller *caller,
                       const struct worker_events *events, void *userdata);

/** checkpoints_chain.c: is such an operation of the daemon before at work? */
bool checkpoints_are_busy(const struct jobs *jobs);

/** checkpoints_chain.c: those at info->path have another Size, Parent, Ancestors now. */
void checkpoints_record_chain(struct jobs *jobs, const Stasis__V1__CheckpointInfo *info);

/** checkpoints_resume.c: looks which checkpoints have changed, after an operation of which nobody knows what it did. */
void checkpoints_refresh(struct jobs *jobs);

/** checkpoints_resume.c: once, at the start: what the daemon before left undone. @return how much cannot be told yet */
size_t checkpoints_resume(struct jobs *jobs);

/** checkpoints_chain.c: records what such an operation has changed. */
void checkpoints_have_changed(struct jobs *jobs, const Stasis__Worker__Result *result);

/** An operation on a job: what all of them need. */
struct job_operation {
        struct jobs *jobs;
        char *jid;
        char *id;    /* the operation's */
        bool policy; /* nobody has asked for it */
        struct worker_events events;
        void *userdata;
};

/** jobs.c: is there such a job? @return 0; -ENOENT with err: then the caller's text is taken */
int job_operation_check(struct jobs *jobs, const char *jid, struct job_caller *caller, struct st_error **err);

/** jobs.c: queues it. @param task its kind, kind_name and, if there is one yet, request are set; the text is taken */
struct worker *job_operation_start(struct job_operation *operation, struct jobs *jobs, const char *jid,
                                   struct worker_task *task, struct job_caller *caller, const struct worker_events *own,
                                   const struct worker_events *events, void *userdata);

/** For worker_events.event: hands it on. */
void job_operation_event(const Stasis__V1__Event *event, void *userdata);

/** Hands the end on. */
void job_operation_end(const struct job_operation *operation, const Stasis__Worker__Result *result,
                       const Stasis__V1__Profile *profile, struct st_error *error);

void job_operation_clear(struct job_operation *operation);

/** jobs_kill.c: the jobs that are named, else all, or all that live. */
int jobs_choose(struct jobs *jobs, char *const *jids, size_t n_jids, bool alive, struct strv *ret,
                struct st_error **err);

/**
 * jobs.c: has a worker ask the plugin of the job's type.
 *
 * @param jid whose other operations it waits for; NULL: none
 * @param end, forget as of struct worker_events
 */
void jobs_ask_plugin(struct jobs *jobs, Stasis__Worker__OperationKind kind, const char *kind_name, const char *jid,
                     const Stasis__V1__JobSpec *spec, const struct job_caller *caller,
                     void (*end)(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile,
                                 struct st_error *error, void *userdata),
                     void (*forget)(void *userdata), void *userdata);

/** Is it an error of a database that cannot be written? Adds the hint. */
int jobs_db_hint(struct jobs *jobs, int r, struct st_error **err);
