/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The database: jobs with their history, checkpoints, hosts. SQLite in WAL mode; one row is one fact. One thread; a
 * call takes well under a millisecond: only db_checkpoint_begin() and db_checkpoint_ready() wait for the disk. One
 * process has it at a time: while the daemon runs no other program can read it.
 *
 * Whatever is not known here is on the way: a job whose end is not recorded yet stands in its supervisor's record, a
 * checkpoint whose dump was interrupted is `writing`. So no call may be skipped because it "will come later".
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

#include <stasis/v1/stasis.pb-c.h>

#include "db/job_state.h"

struct db;

/**
 * Opens or makes the database, and brings it to the present layout. One that is corrupt, or no database, is moved aside
 * to PATH.corrupt-TIME (with its -wal and -shm) and a new one is made: never deleted. One of a newer stasis is refused:
 * -EPROTONOSUPPORT. One that cannot be written is opened all the same, see db_problem().
 *
 * @param ret_moved malloc'ed path of the one that was moved aside, else NULL
 * @return 0 or a negative errno with err and hint
 */
int db_open(const char *path, struct db **ret, char **ret_moved, struct st_error **err);
struct db *db_close(struct db *db);
static inline void db_closep(struct db **db) {
        *db = db_close(*db);
}

/**
 * Why nothing can be written at present ("read-only file system", "no space left on device"), NULL: it can. While there
 * is a problem, each call and each write tries whether there still is; it needs not be opened again. Writes fail with
 * -EROFS or -ENOSPC, reading works: what was on record, or nothing when it cannot be read either.
 *
 * @return the db's, until the next call
 */
const char *db_problem(struct db *db);

/** PRAGMA integrity_check; for tests and `check --full`. @return 0; -EBADMSG with err */
int db_check(struct db *db, struct st_error **err);

/** One job as it is recorded. Filled by the db: everything belongs to the record. */
struct db_job {
        Stasis__V1__JobSpec *spec;
        Stasis__V1__JobState state;
        int64_t since;                      /* ms since 1970 */
        pid_t pid;                          /* the last one; 0: none yet */
        uint64_t start_time;                /* of that process, clock ticks after boot */
        char *boot;                         /* the boot in which that was */
        char *record;                       /* name of its supervisor's record below <run dir>/jobs; NULL: none */
        int exit_status;                    /* of EXITED, as of waitpid(2) */
        unsigned restarts;                  /* since a human last started it */
        bool resume;                        /* CHECKPOINTED by the stop of the daemon: to be restored at its start */
        char *problem;                      /* of its policy; NULL: none */
        int killed;                         /* the signal to end it that somebody last sent, since it began; 0: none */
        Stasis__V1__CheckpointInfo *latest; /* the newest that is ready; NULL: none. Only read, never written */
};

void db_job_clear(struct db_job *job);

/** Adds a job in the state STARTING. @return -EEXIST when there is one of that JID, -EROFS, -ENOSPC, -EIO with err */
int db_job_add(struct db *db, const Stasis__V1__JobSpec *spec, struct st_error **err);

/** Adds a job as it is: adopted from a supervisor's record. @return as db_job_add() */
int db_job_adopt(struct db *db, const struct db_job *job, const char *reason, struct st_error **err);

/**
 * What a job becomes. In the state that it has already only the members change, and nothing is added to its history.
 * Members that are 0 or NULL stay as they were, but for those that `state` makes meaningless: the exit status but
 * of EXITED, `resume` but of CHECKPOINTED, and the record when it begins to be restored.
 */
struct db_job_change {
        Stasis__V1__JobState state;
        pid_t pid;
        const char *reason; /* for the history */
        uint64_t start_time;
        const char *boot;
        const char *record;
        int exit_status; /* with EXITED */
        bool restarted;  /* counts it */
        bool by_hand;    /* counts from 0 again */
        bool resume;
        int killed; /* a signal */
};

/** @return -ENOENT; -EINVAL for a transition that is not allowed; errors of writing; with err */
int db_job_change(struct db *db, const char *jid, const struct db_job_change *change, struct st_error **err);

/** Replaces its policy. */
int db_job_set_policy(struct db *db, const char *jid, const Daemon__JobPolicy *policy, struct st_error **err);

/** @param problem NULL: none any more */
int db_job_set_problem(struct db *db, const char *jid, const char *problem, struct st_error **err);

/** Forgets a job and its history; its checkpoints stay, without a job. @return -ENOENT with err */
int db_job_delete(struct db *db, const char *jid, struct st_error **err);

/** @param ret zero-initialised by the callee @return -ENOENT with err */
int db_job_get(struct db *db, const char *jid, struct db_job *ret, struct st_error **err);

bool db_job_exists(struct db *db, const char *jid);

/**
 * Calls for each job, oldest first, until one call returns non-zero, which is returned. A call may use the db; what it
 * changes may be seen by later calls, or not.
 *
 * @param alive only those in a state of job_state_is_alive()
 */
int db_job_each(struct db *db, bool alive, int (*call)(const struct db_job *job, void *userdata), void *userdata,
                struct st_error **err);

/** The same for who keeps something of them: a call may take spec and latest, and leaves NULL. */
int db_job_take_each(struct db *db, bool alive, int (*call)(struct db_job *job, void *userdata), void *userdata,
                     struct st_error **err);

/** Appends the history to `info`, oldest first: the last 1,000. */
int db_job_history(struct db *db, const char *jid, Stasis__V1__JobInfo *info, struct st_error **err);

/**
 * A dump is about to begin: the place its checkpoint will have is on record before it is there. Survives a loss of
 * power.
 *
 * @param info ID, JID (empty: of no job), Type, Time, UID, Scheduled, Ends; Path: where it will be. Host is what
 * db_host_seen() was told
 * @param operation its work directory's name, by which is told whether it still runs
 * @return -ENOENT: no such job; -EEXIST: one of that ID; errors of writing; with err
 */
int db_checkpoint_begin(struct db *db, const Stasis__V1__CheckpointInfo *info, const char *operation,
                        struct st_error **err);

/** It is there: what is known now. Synced: it survives a loss of power. @return -ENOENT when it was not begun */
int db_checkpoint_ready(struct db *db, const Stasis__V1__CheckpointInfo *info, struct st_error **err);

/** Those at info->path, if there are any, have another Size, Parent, Ancestors now. */
int db_checkpoint_set_chain(struct db *db, const Stasis__V1__CheckpointInfo *info, struct st_error **err);

/** It is about to be deleted, or is not to be after all. @return -ENOENT with err */
int db_checkpoint_set_deleting(struct db *db, const char *id, bool deleting, struct st_error **err);

/** Those that are ready and about to be deleted; as db_checkpoint_each(). */
int db_checkpoint_each_deleting(struct db *db, int (*call)(const Stasis__V1__CheckpointInfo *info, void *userdata),
                                void *userdata, struct st_error **err);

/** It failed, or was deleted. @return -ENOENT with err */
int db_checkpoint_delete(struct db *db, const char *id, struct st_error **err);

/** One that is ready. @param ret free it with message_freep() */
int db_checkpoint_get(struct db *db, const char *id, Stasis__V1__CheckpointInfo **ret, struct st_error **err);

/** Those that are ready, newest first; as db_job_each(). @param jid NULL: all, also without a job */
int db_checkpoint_each(struct db *db, const char *jid,
                       int (*call)(const Stasis__V1__CheckpointInfo *info, void *userdata), void *userdata,
                       struct st_error **err);

/** Newest that is ready, of a job. @return -ENOENT without err when there is none */
int db_checkpoint_latest(struct db *db, const char *jid, Stasis__V1__CheckpointInfo **ret, struct st_error **err);

/** Those that were begun and are neither ready nor deleted: what an interrupted daemon left. */
int db_checkpoint_each_begun(struct db *db,
                             int (*call)(const Stasis__V1__CheckpointInfo *info, const char *operation, void *userdata),
                             void *userdata, struct st_error **err);

/** Records this machine, and when it was seen last. @param host by host_describe() of src/process/host.h */
int db_host_seen(struct db *db, const Daemon__Host *host, struct st_error **err);

/** How many jobs are in each state; for metrics and status. `counts` has JOB_STATES entries. */
#define JOB_STATES 6
int db_job_count(struct db *db, uint64_t counts[static JOB_STATES], struct st_error **err);
