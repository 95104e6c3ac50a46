/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "db/private.h"

/* How much of a job's history is kept. */
#define HISTORY_MAX 1000

int64_t db_job_row(struct db *db, const char *jid, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r = db_statement(db, "SELECT id FROM jobs WHERE jid = ?1", &statement, err);

        if (r < 0)
                return r;
        db_bind_text(statement, 1, jid);
        r = db_step(db, statement, err);
        if (r > 0)
                return sqlite.column_int64(statement, 0);
        if (r < 0)
                return r;
        st_error_set(err, ENOENT, "there is no job %s", jid);
        st_error_hint(err, "'stasis ps' shows all jobs");
        return -ENOENT;
}

bool db_job_exists(struct db *db, const char *jid) {
        return db_job_row(db, jid, NULL) > 0;
}

/* Appends what the job's row says now; the oldest goes when there are too many. */
static int append_history(struct db *db, int64_t id, const char *reason, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *add = NULL, *trim = NULL;
        int r = db_statement(db,
                             "INSERT INTO job_history (job, n, time, state, pid, exit_status, reason)"
                             " SELECT id, (SELECT coalesce(max(n), 0) + 1 FROM job_history WHERE job = ?1),"
                             " since, state, pid, exit_status, ?2 FROM jobs WHERE id = ?1",
                             &add, err);
        if (r < 0)
                return r;
        db_bind_int(add, 1, id);
        db_bind_text(add, 2, reason);
        r = db_run(db, add, err);
        if (r >= 0)
                r = db_statement(db,
                                 "DELETE FROM job_history WHERE job = ?1"
                                 " AND n <= (SELECT max(n) FROM job_history WHERE job = ?1) - ?2",
                                 &trim, err);
        if (r < 0)
                return r;
        db_bind_int(trim, 1, id);
        db_bind_int(trim, 2, HISTORY_MAX);
        r = db_run(db, trim, err);
        return r < 0 ? r : 0;
}

static void bind_policy(sqlite3_stmt *statement, int first, const Daemon__JobPolicy *policy) {
        db_bind_int(statement, first, policy ? (int64_t)policy->every : 0);
        db_bind_int(statement, first + 1, policy ? policy->keep : 0);
        db_bind_int(statement, first + 2, policy && policy->restart ? 1 : 0);
        db_bind_int(statement, first + 3, policy ? policy->restartmax : 0);
}

/* What has columns of its own is left out: each fact is there once. */
static uint8_t *pack_spec(const Stasis__V1__JobSpec *spec, size_t *ret_size) {
        Stasis__V1__JobSpec rest = *spec;

        rest.jid = NULL;
        rest.has_created = 0;
        rest.policy = NULL;
        return message_pack(&rest.base, ret_size);
}

static int insert(struct db *db, const struct db_job *job, const char *reason, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        const Stasis__V1__JobSpec *spec = job->spec;
        size_t size;
        _cleanup_free_ uint8_t *packed = pack_spec(spec, &size);
        int r = db_statement(db,
                             "INSERT INTO jobs (jid, created, spec, every, keep, restart, restart_max, state, since,"
                             " pid, start_time, boot, record, exit_status, restarts, resume, killed, problem)"
                             " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, 0, ?17)",
                             &statement, err);
        if (r < 0)
                return r;
        db_bind_text(statement, 1, spec->jid);
        db_bind_int(statement, 2, spec->has_created ? spec->created : db_now());
        db_bind_blob(statement, 3, packed, size);
        bind_policy(statement, 4, spec->policy);
        db_bind_int(statement, 8, job->state);
        db_bind_int(statement, 9, job->since ?: db_now());
        db_bind_optional(statement, 10, job->pid > 0, job->pid);
        db_bind_optional(statement, 11, job->start_time > 0, (int64_t)job->start_time);
        db_bind_text(statement, 12, job->boot);
        db_bind_text(statement, 13, job->record);
        db_bind_optional(statement, 14, job->state == STASIS__V1__JOB_STATE__EXITED, job->exit_status);
        db_bind_int(statement, 15, job->restarts);
        db_bind_int(statement, 16, job->resume && job->state == STASIS__V1__JOB_STATE__CHECKPOINTED);
        db_bind_text(statement, 17, job->problem);
        r = db_run(db, statement, err);
        if (r == -EEXIST)
                return st_error_wrap(err, "there is a job %s already", spec->jid);
        return r < 0 ? r : append_history(db, sqlite.last_insert_rowid(db->connection), reason, err);
}

int db_job_adopt(struct db *db, const struct db_job *job, const char *reason, struct st_error **err) {
        int r;

        if (isempty(job->spec->jid))
                return st_error_set(err, EINVAL, "a job without a name cannot be recorded");
        r = db_begin(db, false, err);
        return r < 0 ? r : db_end(db, insert(db, job, reason, err), err);
}

int db_job_add(struct db *db, const Stasis__V1__JobSpec *spec, struct st_error **err) {
        struct db_job job = { .spec = (Stasis__V1__JobSpec *)spec, .state = STASIS__V1__JOB_STATE__STARTING };

        return db_job_adopt(db, &job, spec->managed ? "manage" : "run", err);
}

/* What is on record before a change. */
struct present {
        int64_t id;
        Stasis__V1__JobState state;
};

static int get_present(struct db *db, const char *jid, struct present *ret, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int64_t id = db_job_row(db, jid, err);
        int r = id < 0 ? (int)id : db_statement(db, "SELECT state FROM jobs WHERE id = ?1", &statement, err);

        if (r < 0)
                return r;
        db_bind_int(statement, 1, id);
        r = db_step(db, statement, err);
        if (r > 0)
                *ret = (struct present){ id, (Stasis__V1__JobState)sqlite.column_int64(statement, 0) };
        return r;
}

static int update(struct db *db, int64_t id, const struct db_job_change *change, bool stays, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        bool begins = change->state == STASIS__V1__JOB_STATE__RESTORING; /* it will get another record */
        int r = db_statement(db,
                             "UPDATE jobs SET state = ?2, since = coalesce(?3, since), pid = coalesce(?4, pid),"
                             " start_time = coalesce(?5, start_time), boot = coalesce(?6, boot),"
                             " record = coalesce(?7, CASE WHEN ?8 THEN NULL ELSE record END), "
                             " exit_status = coalesce(?9, CASE WHEN ?3 IS NULL THEN exit_status END),"
                             " restarts = CASE WHEN ?10 THEN 0 ELSE restarts END + ?11,"
                             " resume = ?12 AND (?13 OR ?3 IS NULL AND resume),"
                             " killed = CASE WHEN ?14 THEN ?14 WHEN ?15 THEN 0 ELSE killed END"
                             " WHERE id = ?1",
                             &statement, err);
        if (r < 0)
                return r;
        db_bind_int(statement, 1, id);
        db_bind_int(statement, 2, change->state);
        db_bind_optional(statement, 3, !stays, db_now());
        db_bind_optional(statement, 4, change->pid > 0, change->pid);
        db_bind_optional(statement, 5, change->start_time > 0, (int64_t)change->start_time);
        db_bind_text(statement, 6, change->boot);
        db_bind_text(statement, 7, change->record);
        db_bind_int(statement, 8, begins && !stays);
        db_bind_optional(statement, 9,
                         change->state == STASIS__V1__JOB_STATE__EXITED && (!stays || change->exit_status),
                         change->exit_status);
        db_bind_int(statement, 10, change->by_hand);
        db_bind_int(statement, 11, change->restarted);
        db_bind_int(statement, 12, change->state == STASIS__V1__JOB_STATE__CHECKPOINTED);
        db_bind_int(statement, 13, change->resume);
        db_bind_int(statement, 14, change->killed);
        db_bind_int(statement, 15, !stays && job_state_is_alive(change->state));
        r = db_run(db, statement, err);
        return r < 0 ? r : 0;
}

static int apply(struct db *db, const char *jid, const struct db_job_change *change, struct st_error **err) {
        struct present present = { 0 };
        int r = get_present(db, jid, &present, err);

        if (r < 0)
                return r;
        bool stays = present.state == change->state;
        if (!stays && !job_state_may_become(present.state, change->state))
                return st_error_set(err, EINVAL, "the job %s is %s: it cannot become %s", jid,
                                    job_state_name(present.state), job_state_name(change->state));
        r = update(db, present.id, change, stays, err);
        return r < 0 || stays ? r : append_history(db, present.id, change->reason, err);
}

int db_job_change(struct db *db, const char *jid, const struct db_job_change *change, struct st_error **err) {
        int r = db_begin(db, false, err);

        return r < 0 ? r : db_end(db, apply(db, jid, change, err), err);
}

static int set_policy(struct db *db, const char *jid, const Daemon__JobPolicy *policy, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int64_t id = db_job_row(db, jid, err);
        int r = id < 0 ? (int)id
                       : db_statement(db,
                                      "UPDATE jobs SET every = ?2, keep = ?3, restart = ?4, restart_max = ?5"
                                      " WHERE id = ?1",
                                      &statement, err);
        if (r < 0)
                return r;
        db_bind_int(statement, 1, id);
        bind_policy(statement, 2, policy);
        r = db_run(db, statement, err);
        return r < 0 ? r : 0;
}

int db_job_set_policy(struct db *db, const char *jid, const Daemon__JobPolicy *policy, struct st_error **err) {
        int r = db_begin(db, false, err);

        return r < 0 ? r : db_end(db, set_policy(db, jid, policy, err), err);
}

/* A statement with a row's number, and perhaps a text. */
static int run_for(struct db *db, const char *jid, const char *sql, const char *text, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int64_t id = db_job_row(db, jid, err);
        int r = id < 0 ? (int)id : db_statement(db, sql, &statement, err);

        if (r < 0)
                return r;
        db_bind_int(statement, 1, id);
        if (text)
                db_bind_text(statement, 2, text);
        r = db_run(db, statement, err);
        return r < 0 ? r : 0;
}

int db_job_set_problem(struct db *db, const char *jid, const char *problem, struct st_error **err) {
        const char *sql =
                problem ? "UPDATE jobs SET problem = ?2 WHERE id = ?1" : "UPDATE jobs SET problem = NULL WHERE id = ?1";
        int r = db_begin(db, false, err);

        return r < 0 ? r : db_end(db, run_for(db, jid, sql, problem, err), err);
}

int db_job_delete(struct db *db, const char *jid, struct st_error **err) {
        int r = db_begin(db, false, err);

        return r < 0 ? r : db_end(db, run_for(db, jid, "DELETE FROM jobs WHERE id = ?1", NULL, err), err);
}
