/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "db/private.h"

#define FROM " FROM checkpoints c LEFT JOIN jobs j ON j.id = c.job LEFT JOIN hosts h ON h.id = c.host "
#define SELECT "SELECT " DB_CHECKPOINT_COLUMNS ", j.jid, c.operation" FROM
/* What follows DB_CHECKPOINT_COLUMNS in it. */
#define COLUMN_JID DB_CHECKPOINT_COLUMN_COUNT
#define COLUMN_OPERATION (DB_CHECKPOINT_COLUMN_COUNT + 1)

/* Rows are read so many at a time, so that whoever gets them may write to the database. */
#define CHUNK 256

Stasis__V1__CheckpointInfo *db_checkpoint_read(sqlite3_stmt *statement, int first, const char *jid) {
        Stasis__V1__CheckpointInfo *info = message_new(&stasis__v1__checkpoint_info__descriptor);
        int64_t number;

        message_set_string(&info->id, (const char *)sqlite.column_text(statement, first + 1));
        message_set_string(&info->jid, jid);
        message_set_string(&info->type, (const char *)sqlite.column_text(statement, first + 2));
        message_set_string(&info->path, (const char *)sqlite.column_text(statement, first + 3));
        message_set_string(&info->format, (const char *)sqlite.column_text(statement, first + 4));
        info->has_time = 1;
        info->time = sqlite.column_int64(statement, first + 5);
        struct {
                uint64_t *value;
                protobuf_c_boolean *has;
        } numbers[] = {
                { &info->size, &info->has_size },
                { &info->frozen, &info->has_frozen },
                { &info->duration, &info->has_duration },
                { &info->pages, &info->has_pages },
        };
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
                *numbers[i].has = db_column_optional(statement, first + 6 + (int)i, &number);
                *numbers[i].value = *numbers[i].has ? (uint64_t)number : 0;
        }
        message_set_string(&info->host, (const char *)sqlite.column_text(statement, first + 10));
        info->has_uid = db_column_optional(statement, first + 11, &number);
        info->uid = info->has_uid ? (uint32_t)number : 0;
        info->has_scheduled = 1;
        info->scheduled = sqlite.column_int64(statement, first + 12) != 0;
        info->has_ends = 1;
        info->ends = sqlite.column_int64(statement, first + 13) != 0;
        message_set_string(&info->parent, (const char *)sqlite.column_text(statement, first + 14));
        info->has_ancestors = db_column_optional(statement, first + 15, &number);
        info->ancestors = info->has_ancestors ? (uint32_t)number : 0;
        return info;
}

static int insert(struct db *db, const Stasis__V1__CheckpointInfo *info, const char *operation, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int64_t job = isempty(info->jid) ? 0 : db_job_row(db, info->jid, err);
        int r = job < 0 ? (int)job : db_this_host(db, err);

        if (r >= 0)
                r = db_statement(db,
                                 "INSERT INTO checkpoints (name, job, host, operation, ready, type, path, time, uid,"
                                 " scheduled, ends) VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8, ?9, ?10)",
                                 &statement, err);
        if (r < 0)
                return r;
        db_bind_text(statement, 1, info->id);
        db_bind_optional(statement, 2, job > 0, job);
        db_bind_optional(statement, 3, db->host > 0, db->host);
        db_bind_text(statement, 4, operation);
        db_bind_text(statement, 5, info->type ?: "");
        db_bind_text(statement, 6, info->path ?: "");
        db_bind_int(statement, 7, info->has_time ? info->time : db_now());
        db_bind_optional(statement, 8, info->has_uid, info->uid);
        db_bind_int(statement, 9, info->scheduled ? 1 : 0);
        db_bind_int(statement, 10, info->ends ? 1 : 0);
        r = db_run(db, statement, err);
        if (r == -EEXIST)
                return st_error_wrap(err, "cannot record the checkpoint %s, which there is already", info->id);
        return r;
}

int db_checkpoint_begin(struct db *db, const Stasis__V1__CheckpointInfo *info, const char *operation,
                        struct st_error **err) {
        int r = db_begin(db, true, err);

        if (r >= 0)
                r = db_end(db, insert(db, info, operation, err), err);
        return r < 0 ? r : 0;
}

static int no_checkpoint(const char *id, struct st_error **err) {
        st_error_set(err, ENOENT, "there is no checkpoint %s", id);
        st_error_hint(err, "'stasis checkpoint list' shows those that are recorded");
        return -ENOENT;
}

static int make_ready(struct db *db, const Stasis__V1__CheckpointInfo *info, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r = db_statement(db,
                             "UPDATE checkpoints SET ready = 1, path = coalesce(?2, path), format = ?3, size = ?4,"
                             " frozen = ?5, duration = ?6, pages = ?7, time = coalesce(?8, time),"
                             " parent = ?9, ancestors = ?10"
                             " WHERE name = ?1",
                             &statement, err);
        if (r < 0)
                return r;
        db_bind_text(statement, 1, info->id);
        db_bind_text(statement, 2, isempty(info->path) ? NULL : info->path);
        db_bind_text(statement, 3, info->format);
        db_bind_optional(statement, 4, info->has_size, (int64_t)info->size);
        db_bind_optional(statement, 5, info->has_frozen, (int64_t)info->frozen);
        db_bind_optional(statement, 6, info->has_duration, (int64_t)info->duration);
        db_bind_optional(statement, 7, info->has_pages, (int64_t)info->pages);
        db_bind_optional(statement, 8, info->has_time, info->time);
        db_bind_text(statement, 9, isempty(info->parent) ? NULL : info->parent);
        db_bind_optional(statement, 10, info->has_ancestors, info->ancestors);
        r = db_run(db, statement, err);
        return r == 0 ? no_checkpoint(info->id, err) : r;
}

int db_checkpoint_ready(struct db *db, const Stasis__V1__CheckpointInfo *info, struct st_error **err) {
        int r = db_begin(db, true, err);

        if (r >= 0)
                r = db_end(db, make_ready(db, info, err), err);
        return r < 0 ? r : 0;
}

static int set_chain(struct db *db, const Stasis__V1__CheckpointInfo *info, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r = db_statement(db,
                             "UPDATE checkpoints SET size = coalesce(?2, size), parent = ?3, ancestors = ?4"
                             " WHERE path = ?1 AND ready = 1",
                             &statement, err);

        if (r < 0)
                return r;
        db_bind_text(statement, 1, info->path);
        db_bind_optional(statement, 2, info->has_size, (int64_t)info->size);
        db_bind_text(statement, 3, isempty(info->parent) ? NULL : info->parent);
        db_bind_optional(statement, 4, info->has_ancestors, info->ancestors);
        return db_run(db, statement, err);
}

int db_checkpoint_set_chain(struct db *db, const Stasis__V1__CheckpointInfo *info, struct st_error **err) {
        int r = db_begin(db, false, err);

        if (r >= 0)
                r = db_end(db, set_chain(db, info, err), err);
        return r < 0 ? r : 0;
}

/** @return how many rows there were; -errno */
static int run_for(struct db *db, const char *sql, const char *id, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r = db_statement(db, sql, &statement, err);

        if (r < 0)
                return r;
        db_bind_text(statement, 1, id);
        return db_run(db, statement, err);
}

int db_checkpoint_set_deleting(struct db *db, const char *id, bool deleting, struct st_error **err) {
        const char *sql = deleting ? "UPDATE checkpoints SET deleting = 1 WHERE name = ?1"
                                   : "UPDATE checkpoints SET deleting = NULL WHERE name = ?1";
        int r = db_begin(db, false, err);

        if (r >= 0) {
                r = run_for(db, sql, id, err);
                r = db_end(db, r == 0 ? no_checkpoint(id, err) : r, err);
        }
        return r < 0 ? r : 0;
}

/** Nobody refers to what goes: whose parent it still is by this was not told of a change. */
static int remove_one(struct db *db, const char *id, struct st_error **err) {
        int r = run_for(db,
                        "UPDATE checkpoints SET parent = NULL"
                        " WHERE parent = (SELECT path FROM checkpoints WHERE name = ?1)",
                        id, err);

        if (r >= 0)
                r = run_for(db, "DELETE FROM checkpoints WHERE name = ?1", id, err);
        return r == 0 ? no_checkpoint(id, err) : r;
}

int db_checkpoint_delete(struct db *db, const char *id, struct st_error **err) {
        int r = db_begin(db, false, err);

        if (r >= 0)
                r = db_end(db, remove_one(db, id, err), err);
        return r < 0 ? r : 0;
}

/* The one row of a statement with one name. @return 1, 0: none, or a negative errno */
static int get(struct db *db, const char *sql, const char *name, Stasis__V1__CheckpointInfo **ret,
               struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r = db_statement(db, sql, &statement, err);

        *ret = NULL;
        if (r < 0)
                return r;
        db_bind_text(statement, 1, name);
        r = db_step(db, statement, err);
        if (r > 0)
                *ret = db_checkpoint_read(statement, 0, (const char *)sqlite.column_text(statement, COLUMN_JID));
        return r;
}

int db_checkpoint_get(struct db *db, const char *id, Stasis__V1__CheckpointInfo **ret, struct st_error **err) {
        int r = get(db, SELECT "WHERE c.name = ?1 AND c.ready = 1", id, ret, err);

        return r == 0 ? no_checkpoint(id, err) : r < 0 ? r : 0;
}

int db_checkpoint_latest(struct db *db, const char *jid, Stasis__V1__CheckpointInfo **ret, struct st_error **err) {
        int r = get(db, SELECT "WHERE j.jid = ?1 AND c.ready = 1 ORDER BY c.time DESC, c.id DESC LIMIT 1", jid, ret,
                    err);

        return r == 0 ? -ENOENT : r < 0 ? r : 0;
}

struct chunk {
        Stasis__V1__CheckpointInfo *infos[CHUNK];
        char *operations[CHUNK];
        size_t n;
        int64_t time, id; /* of the last one */
};

static void chunk_clear(struct chunk *chunk) {
        for (size_t i = 0; i < chunk->n; i++) {
                message_freep(&chunk->infos[i]);
                free(chunk->operations[i]);
        }
        chunk->n = 0;
}

/* The rows after the last one of the chunk, which they replace. */
static int chunk_read(struct db *db, const char *sql, const char *jid, struct chunk *chunk, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r = db_statement(db, sql, &statement, err);

        chunk_clear(chunk);
        if (r < 0)
                return r;
        db_bind_int(statement, 1, chunk->time);
        db_bind_int(statement, 2, chunk->id);
        db_bind_int(statement, 3, CHUNK);
        if (jid)
                db_bind_text(statement, 4, jid);
        while ((r = db_step(db, statement, err)) > 0) {
                const char *job = (const char *)sqlite.column_text(statement, COLUMN_JID);

                chunk->id = sqlite.column_int64(statement, 0);
                chunk->time = sqlite.column_int64(statement, 5);
                chunk->infos[chunk->n] = db_checkpoint_read(statement, 0, job);
                chunk->operations[chunk->n++] = db_column_text(statement, COLUMN_OPERATION);
        }
        return r;
}

#define BEFORE " AND (c.time, c.id) < (?1, ?2) ORDER BY c.time DESC, c.id DESC LIMIT ?3"

static int each(struct db *db, const char *sql, const char *jid,
                int (*call)(const Stasis__V1__CheckpointInfo *info, void *userdata), void *userdata,
                struct st_error **err) {
        _cleanup_(chunk_clear) struct chunk chunk = { .time = INT64_MAX, .id = INT64_MAX };
        int r;

        do {
                r = chunk_read(db, sql, jid, &chunk, err);
                for (size_t i = 0; r == 0 && i < chunk.n; i++)
                        r = call(chunk.infos[i], userdata);
        } while (r == 0 && chunk.n == CHUNK);
        return r;
}

int db_checkpoint_each(struct db *db, const char *jid,
                       int (*call)(const Stasis__V1__CheckpointInfo *info, void *userdata), void *userdata,
                       struct st_error **err) {
        if (jid)
                return each(db, SELECT "WHERE c.ready = 1 AND c.job = (SELECT id FROM jobs WHERE jid = ?4)" BEFORE, jid,
                            call, userdata, err);
        return each(db, SELECT "WHERE c.ready = 1" BEFORE, NULL, call, userdata, err);
}

int db_checkpoint_each_deleting(struct db *db, int (*call)(const Stasis__V1__CheckpointInfo *info, void *userdata),
                                void *userdata, struct st_error **err) {
        return each(db, SELECT "WHERE c.ready = 1 AND c.deleting = 1" BEFORE, NULL, call, userdata, err);
}

int db_checkpoint_each_begun(struct db *db,
                             int (*call)(const Stasis__V1__CheckpointInfo *info, const char *operation, void *userdata),
                             void *userdata, struct st_error **err) {
        _cleanup_(chunk_clear) struct chunk chunk = { .time = INT64_MAX, .id = INT64_MAX };
        int r;

        do {
                r = chunk_read(db, SELECT "WHERE c.ready = 0" BEFORE, NULL, &chunk, err);
                for (size_t i = 0; r == 0 && i < chunk.n; i++)
                        r = call(chunk.infos[i], chunk.operations[i], userdata);
        } while (r == 0 && chunk.n == CHUNK);
        return r;
}
