/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of src/db share: the connection, statements, transactions, errors. Everybody else uses db.h. */

#include <stdbool.h>
#include <stdint.h>

#include "db/db.h"
#include "db/sqlite.h"

/** A statement that was prepared, by the address of its text. */
struct db_cached {
        const char *sql;
        sqlite3_stmt *statement;
};

struct db {
        char *path; /* absolute */
        sqlite3 *connection;
        bool read_only; /* the file cannot be written, or this is a copy of it in memory */
        char *problem;  /* db_problem(); NULL: none */
        int problem_number;
        Daemon__Host *this_host; /* by db_host_seen(); NULL: not called yet */
        int64_t host;            /* its row; 0: none yet */
        struct db_cached *cached;
        size_t n_cached, room_cached;
};

/* schema.c */

/** In the header of each of our files, where file(1) and we look for whose it is: "stas". */
#define DB_APPLICATION 0x73746173

/** The layout that this program makes and reads: user_version. */
int db_version(void);

/** Brings a database from a layout to the present one, each step a transaction. @return 0 or an SQLite code */
int db_migrate(sqlite3 *connection, int64_t version);

/* open.c */

/**
 * Opens the file for writing, exclusively, and migrates it.
 *
 * @param check look for damage
 * @return 0; -EBADMSG: damaged, or no database; -EBUSY; -EROFS or -ENOSPC: perhaps it can be read; others. With err
 */
int db_open_writable(struct db *db, bool check, struct st_error **err);

/** Opens what there is for reading; an empty one in memory when there is none. @return as db_open_writable() */
int db_open_read_only(struct db *db, struct st_error **err);

/** An empty database in memory. */
int db_open_empty(struct db *db, struct st_error **err);

/** Ends statements and connection. */
void db_disconnect(struct db *db);

/** "PATH.damaged", malloc'ed: there when damage was met in use, so that the next check is a whole one. */
char *db_damaged_mark(const struct db *db);

/* statement.c */

/** An error for a code of SQLite's; notes that nothing can be written, or that the file is damaged. @return -errno */
int db_error(struct db *db, int code, struct st_error **err, const char *what) __attribute__((nonnull(1, 4)));

/** Notes why nothing can be written; 0: it can. */
void db_note_problem(struct db *db, int number, const char *text);

/**
 * A statement with nothing bound, prepared at its first use.
 *
 * @param sql a literal: its address is the key
 * @param ret the db's; ends with db_donep()
 */
int db_statement(struct db *db, const char *sql, sqlite3_stmt **ret, struct st_error **err);
void db_donep(sqlite3_stmt **statement);
#define _cleanup_statement_ __attribute__((cleanup(db_donep)))

/** @return 1: there is a row; 0: no more; a negative errno with err */
int db_step(struct db *db, sqlite3_stmt *statement, struct st_error **err);

/** Runs a statement to its end. @return how many rows it changed; a negative errno with err */
int db_run(struct db *db, sqlite3_stmt *statement, struct st_error **err);

/** Parameters count from 1. NULL is bound as NULL; texts and blobs must stay until the statement is done. */
void db_bind_text(sqlite3_stmt *statement, int i, const char *text);
void db_bind_int(sqlite3_stmt *statement, int i, int64_t number);
/** NULL unless `there`. */
void db_bind_optional(sqlite3_stmt *statement, int i, bool there, int64_t number);
void db_bind_blob(sqlite3_stmt *statement, int i, const void *data, size_t size);

/** Columns count from 0. A copy, NULL for NULL. */
char *db_column_text(sqlite3_stmt *statement, int i);
/** @return is it not NULL? */
bool db_column_optional(sqlite3_stmt *statement, int i, int64_t *ret);

/**
 * Begins to write. All of it happens, or nothing.
 *
 * @param safe it must survive a loss of power
 */
int db_begin(struct db *db, bool safe, struct st_error **err);

/** Ends what db_begin() began: takes it back when r is negative. @return r, or why it could not be written */
int db_end(struct db *db, int r, struct st_error **err);

/** Can something be written now? Notes the answer. */
void db_probe(struct db *db);

/* hosts.c, checkpoints.c, jobs.c */

/** Within a transaction: sees to it that this machine has a row, if it is known. */
int db_this_host(struct db *db, struct st_error **err);

/** Milliseconds since 1970. */
int64_t db_now(void);

/** A job's row. @return its number; -ENOENT with err */
int64_t db_job_row(struct db *db, const char *jid, struct st_error **err);

/** The columns that db_checkpoint_read() reads, of a checkpoint `c`, its host `h`; its job's name comes extra. */
#define DB_CHECKPOINT_COLUMNS                                                            \
        "c.id, c.name, c.type, c.path, c.format, c.time, c.size, c.frozen, c.duration, " \
        "c.pages, h.name, c.uid, c.scheduled, c.ends, c.parent, c.ancestors "
#define DB_CHECKPOINT_COLUMN_COUNT 16

/** @param first the column where they begin @param jid NULL: no job. A heap message */
Stasis__V1__CheckpointInfo *db_checkpoint_read(sqlite3_stmt *statement, int first, const char *jid);
