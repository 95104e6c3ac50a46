/* SPDX-License-Identifier: Apache-2.0 */

/* Reading jobs. */

#include <errno.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "db/private.h"

/* A job `j` with the newest of its checkpoints that are ready. */
#define JOB_COLUMNS                                                                                     \
        "j.id, j.jid, j.created, j.spec, j.every, j.keep, j.restart, j.restart_max, j.state, j.since, " \
        "j.pid, j.start_time, j.boot, j.record, j.exit_status, j.restarts, j.resume, j.problem, j.killed, "
#define NEWEST "(SELECT id FROM checkpoints WHERE job = j.id AND ready = 1 ORDER BY time DESC, id DESC LIMIT 1) "
#define FROM "FROM jobs j LEFT JOIN checkpoints c ON c.id = " NEWEST "LEFT JOIN hosts h ON h.id = c.host "
#define SELECT "SELECT " JOB_COLUMNS DB_CHECKPOINT_COLUMNS FROM
#define COLUMN_CHECKPOINT 19

/* Rows are read so many at a time, so that whoever gets them may write to the database. */
#define CHUNK 256

void db_job_clear(struct db_job *job) {
        message_freep(&job->spec);
        message_freep(&job->latest);
        free(job->boot);
        free(job->record);
        free(job->problem);
        *job = (struct db_job){ 0 };
}

static Daemon__JobPolicy *read_policy(sqlite3_stmt *row, int first) {
        int64_t every = sqlite.column_int64(row, first), keep = sqlite.column_int64(row, first + 1);
        int64_t restart = sqlite.column_int64(row, first + 2), restart_max = sqlite.column_int64(row, first + 3);
        Daemon__JobPolicy *policy;

        if (!every && !keep && !restart && !restart_max)
                return NULL;
        policy = message_new(&daemon__job_policy__descriptor);
        policy->has_every = policy->has_keep = policy->has_restart = policy->has_restartmax = 1;
        policy->every = (uint64_t)every;
        policy->keep = (uint32_t)keep;
        policy->restart = restart != 0;
        policy->restartmax = (uint32_t)restart_max;
        return policy;
}

/* One that cannot be unpacked must not hide all others from `ps`: it has its name only, and a problem. */
static Stasis__V1__JobSpec *read_spec(sqlite3_stmt *row, char **ret_problem) {
        const void *packed = sqlite.column_blob(row, 3);
        size_t size = (size_t)sqlite.column_bytes(row, 3);
        Stasis__V1__JobSpec *spec = stasis__v1__job_spec__unpack(NULL, size, packed);

        if (!spec) {
                spec = message_new(&stasis__v1__job_spec__descriptor);
                free(*ret_problem);
                *ret_problem = xstrdup("what it is cannot be read from the database any more: its row is damaged");
        }
        message_set_string(&spec->jid, (const char *)sqlite.column_text(row, 1));
        spec->has_created = 1;
        spec->created = sqlite.column_int64(row, 2);
        daemon__job_policy__free_unpacked(spec->policy, NULL);
        spec->policy = read_policy(row, 4);
        return spec;
}

static void read_job(sqlite3_stmt *row, struct db_job *ret) {
        *ret = (struct db_job){
                .state = (Stasis__V1__JobState)sqlite.column_int64(row, 8),
                .since = sqlite.column_int64(row, 9),
                .pid = (pid_t)sqlite.column_int64(row, 10),
                .start_time = (uint64_t)sqlite.column_int64(row, 11),
                .boot = db_column_text(row, 12),
                .record = db_column_text(row, 13),
                .exit_status = (int)sqlite.column_int64(row, 14),
                .restarts = (unsigned)sqlite.column_int64(row, 15),
                .resume = sqlite.column_int64(row, 16) != 0,
                .problem = db_column_text(row, 17),
                .killed = (int)sqlite.column_int64(row, 18),
        };
        ret->spec = read_spec(row, &ret->problem);
        if (sqlite.column_type(row, COLUMN_CHECKPOINT) != SQLITE_NULL)
                ret->latest = db_checkpoint_read(row, COLUMN_CHECKPOINT, ret->spec->jid);
}

int db_job_get(struct db *db, const char *jid, struct db_job *ret, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int64_t id = db_job_row(db, jid, err);
        int r;

        *ret = (struct db_job){ 0 };
        r = id < 0 ? (int)id : db_statement(db, SELECT "WHERE j.id = ?1", &statement, err);
        if (r < 0)
                return r;
        db_bind_int(statement, 1, id);
        r = db_step(db, statement, err);
        if (r > 0)
                read_job(statement, ret);
        return r < 0 ? r : 0;
}

struct chunk {
        struct db_job jobs[CHUNK];
        size_t n;
        int64_t created, id; /* of the last one */
};

static void chunk_clear(struct chunk *chunk) {
        for (size_t i = 0; i < chunk->n; i++)
                db_job_clear(&chunk->jobs[i]);
        chunk->n = 0;
}

/* The rows after the last one of the chunk, which they replace. */
static int chunk_read(struct db *db, int64_t states, struct chunk *chunk, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r = db_statement(db,
                             SELECT "WHERE (j.created, j.id) > (?1, ?2) AND 1 << j.state & ?3"
                                    " ORDER BY j.created, j.id LIMIT ?4",
                             &statement, err);
        chunk_clear(chunk);
        if (r < 0)
                return r;
        db_bind_int(statement, 1, chunk->created);
        db_bind_int(statement, 2, chunk->id);
        db_bind_int(statement, 3, states);
        db_bind_int(statement, 4, CHUNK);
        while ((r = db_step(db, statement, err)) > 0) {
                chunk->id = sqlite.column_int64(statement, 0);
                chunk->created = sqlite.column_int64(statement, 2);
                read_job(statement, &chunk->jobs[chunk->n++]);
        }
        return r;
}

int db_job_take_each(struct db *db, bool alive, int (*call)(struct db_job *job, void *userdata), void *userdata,
                     struct st_error **err) {
        _cleanup_(chunk_clear) struct chunk chunk = { .created = INT64_MIN, .id = INT64_MIN };
        int64_t states = 0;
        int r;

        for (int state = 0; state < JOB_STATES; state++)
                if (!alive || job_state_is_alive((Stasis__V1__JobState)state))
                        states |= (int64_t)1 << state;
        do {
                r = chunk_read(db, states, &chunk, err);
                for (size_t i = 0; r == 0 && i < chunk.n; i++)
                        r = call(&chunk.jobs[i], userdata);
        } while (r == 0 && chunk.n == CHUNK);
        return r;
}

struct reader {
        int (*call)(const struct db_job *job, void *userdata);
        void *userdata;
};

static int call_reader(struct db_job *job, void *userdata) {
        const struct reader *reader = userdata;

        return reader->call(job, reader->userdata);
}

int db_job_each(struct db *db, bool alive, int (*call)(const struct db_job *job, void *userdata), void *userdata,
                struct st_error **err) {
        struct reader reader = { call, userdata };

        return db_job_take_each(db, alive, call_reader, &reader, err);
}

int db_job_history(struct db *db, const char *jid, Stasis__V1__JobInfo *info, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int64_t id = db_job_row(db, jid, err), number;
        int r = id < 0 ? (int)id
                       : db_statement(db,
                                      "SELECT time, state, pid, exit_status, reason FROM job_history"
                                      " WHERE job = ?1 ORDER BY n",
                                      &statement, err);
        if (r < 0)
                return r;
        db_bind_int(statement, 1, id);
        while ((r = db_step(db, statement, err)) > 0) {
                Stasis__V1__JobEvent *event = message_new(&stasis__v1__job_event__descriptor);

                event->has_time = event->has_state = 1;
                event->time = sqlite.column_int64(statement, 0);
                event->state = (Stasis__V1__JobState)sqlite.column_int64(statement, 1);
                event->has_pid = db_column_optional(statement, 2, &number);
                event->pid = event->has_pid ? (uint32_t)number : 0;
                event->has_exitstatus = db_column_optional(statement, 3, &number);
                event->exitstatus = event->has_exitstatus ? (int32_t)number : 0;
                message_set_string(&event->reason, (const char *)sqlite.column_text(statement, 4));
                message_append(&info->n_history, &info->history, event);
        }
        return r;
}

int db_job_count(struct db *db, uint64_t counts[static JOB_STATES], struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r = db_statement(db, "SELECT state, count(*) FROM jobs GROUP BY state", &statement, err);

        for (size_t i = 0; i < JOB_STATES; i++)
                counts[i] = 0;
        if (r < 0)
                return r;
        while ((r = db_step(db, statement, err)) > 0)
                counts[sqlite.column_int64(statement, 0)] = (uint64_t)sqlite.column_int64(statement, 1);
        return r;
}
