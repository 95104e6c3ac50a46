/* SPDX-License-Identifier: Apache-2.0 */

/* Statements, transactions, and what the errors of SQLite mean. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "db/private.h"

int64_t db_now(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void db_note_problem(struct db *db, int number, const char *text) {
        char *copy = number ? xstrdup(text) : NULL;

        free(db->problem);
        db->problem = copy;
        db->problem_number = number;
}

/* What the system said below SQLite: one of those that callers tell apart. */
static int system_number(int number) {
        switch (number) {
        case ENOSPC:
        case EDQUOT:
                return ENOSPC;
        case EROFS:
        case EACCES:
        case EPERM:
                return EROFS;
        default:
                return EIO;
        }
}

static int number_of(int code, int system) {
        switch (code & 0xff) {
        case SQLITE_FULL:
                return ENOSPC;
        case SQLITE_READONLY:
                return EROFS;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return EBUSY;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return EBADMSG;
        case SQLITE_NOMEM:
                return ENOMEM;
        case SQLITE_CANTOPEN:
        case SQLITE_IOERR:
                return system_number(system);
        case SQLITE_CONSTRAINT:
                return code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY ? EEXIST : EINVAL;
        default:
                return EIO;
        }
}

/* So that the next db_open() looks at every page. */
static void mark_damaged(const struct db *db) {
        _cleanup_free_ char *mark = db_damaged_mark(db);
        int fd = open(mark, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd >= 0)
                close(fd);
}

int db_error(struct db *db, int code, struct st_error **err, const char *what) {
        int system = sqlite.system_errno(db->connection), number = number_of(code, system);
        const char *why = number == EBADMSG ? "it is damaged" : sqlite.errstr(code);

        if (number == ENOSPC)
                why = system == EDQUOT ? "the disk quota is used up" : "no space left on device";
        else if (number == EROFS)
                why = system == EACCES || system == EPERM ? "permission denied" : "read-only file system";
        else if (number == EIO && system)
                why = strerror(system);
        else if (number == EINVAL)
                why = sqlite.errmsg(db->connection); /* names the constraint */
        st_error_set(err, number, "cannot %s the database %s: %s", what, db->path, why);
        if (number == ENOSPC || number == EROFS || number == EIO)
                db_note_problem(db, number, why);
        if (number == ENOSPC)
                st_error_hint(err, "make room on its file system; nothing has to be restarted");
        if (number == EBADMSG && !db->read_only) {
                mark_damaged(db);
                st_error_hint(err, "restart the daemon: it checks the whole database, moves a damaged one aside and "
                                   "takes up the running jobs again");
        }
        return -number;
}

int db_statement(struct db *db, const char *sql, sqlite3_stmt **ret, struct st_error **err) {
        for (size_t i = 0; i < db->n_cached; i++)
                if (db->cached[i].sql == sql) {
                        *ret = db->cached[i].statement;
                        return 0;
                }
        int code = sqlite.prepare_v3(db->connection, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
        if (code != SQLITE_OK)
                return db_error(db, code, err, "read");
        GROW(db->cached, db->n_cached, db->room_cached);
        db->cached[db->n_cached++] = (struct db_cached){ sql, *ret };
        return 0;
}

void db_donep(sqlite3_stmt **statement) {
        if (!*statement)
                return;
        (void)sqlite.reset(*statement); /* tells again what db_step() has told */
        (void)sqlite.clear_bindings(*statement);
}

int db_step(struct db *db, sqlite3_stmt *statement, struct st_error **err) {
        int code = sqlite.step(statement);

        if (code == SQLITE_ROW || code == SQLITE_DONE)
                return code == SQLITE_ROW;
        return db_error(db, code, err, sqlite.get_autocommit(db->connection) ? "read" : "write to");
}

int db_run(struct db *db, sqlite3_stmt *statement, struct st_error **err) {
        int r;

        while ((r = db_step(db, statement, err)) > 0)
                ;
        return r < 0 ? r : sqlite.changes(db->connection);
}

/* Binding fails for numbers that are no parameter, and for texts that nobody could have packed: bugs. */
void db_bind_text(sqlite3_stmt *statement, int i, const char *text) {
        int code = text ? sqlite.bind_text(statement, i, text, -1, SQLITE_STATIC) : sqlite.bind_null(statement, i);

        assert(code == SQLITE_OK);
        (void)code;
}

void db_bind_int(sqlite3_stmt *statement, int i, int64_t number) {
        int code = sqlite.bind_int64(statement, i, number);

        assert(code == SQLITE_OK);
        (void)code;
}

void db_bind_optional(sqlite3_stmt *statement, int i, bool there, int64_t number) {
        if (there)
                db_bind_int(statement, i, number);
        else
                db_bind_text(statement, i, NULL);
}

void db_bind_blob(sqlite3_stmt *statement, int i, const void *data, size_t size) {
        int code = sqlite.bind_blob(statement, i, size ? data : "", (int)size, SQLITE_STATIC);

        assert(code == SQLITE_OK);
        (void)code;
}

char *db_column_text(sqlite3_stmt *statement, int i) {
        return xstrdup((const char *)sqlite.column_text(statement, i));
}

bool db_column_optional(sqlite3_stmt *statement, int i, int64_t *ret) {
        if (sqlite.column_type(statement, i) == SQLITE_NULL)
                return false;
        *ret = sqlite.column_int64(statement, i);
        return true;
}

static int run_text(struct db *db, const char *sql, struct st_error **err) {
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int r = db_statement(db, sql, &statement, err);

        return r < 0 ? r : db_run(db, statement, err);
}

/* A file that could not be written is opened again: perhaps it can be now. */
static int become_writable(struct db *db, struct st_error **err) {
        struct db again = { .path = db->path };
        int r = db_open_writable(&again, true, err);

        if (r < 0) {
                db_disconnect(&again);
                db_note_problem(&again, 0, NULL);
                return r;
        }
        db_disconnect(db);
        db_note_problem(db, 0, NULL);
        again.this_host = db->this_host; /* its row was the copy's: the next write finds it, or makes it */
        *db = again;
        return 0;
}

int db_begin(struct db *db, bool safe, struct st_error **err) {
        if (db->read_only && become_writable(db, NULL) < 0) {
                st_error_set(err, db->problem_number, "cannot write to the database %s: %s", db->path, db->problem);
                st_error_hint(err, db->problem_number == ENOSPC
                                           ? "make room on its file system; nothing has to be restarted"
                                           : "make it writable, or choose another by --db or the config key DB.Path");
                return -db->problem_number;
        }
        /* With NORMAL nothing is synced until the log is copied to the database: see sqlite.org/pragma.html. */
        int code = sqlite.exec(db->connection, safe ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", NULL,
                               NULL, NULL);
        if (code != SQLITE_OK)
                return db_error(db, code, err, "write to");
        int r = run_text(db, "BEGIN IMMEDIATE", err);
        return r < 0 ? r : 0;
}

int db_end(struct db *db, int r, struct st_error **err) {
        if (r >= 0) {
                int committed = run_text(db, "COMMIT", err);

                if (committed >= 0) {
                        db_note_problem(db, 0, NULL);
                        return r;
                }
                r = committed;
        }
        db->host = 0; /* perhaps its row is undone, too */
        /* Some failures have rolled back already. */
        if (!sqlite.get_autocommit(db->connection))
                (void)run_text(db, "ROLLBACK", NULL);
        return r;
}

void db_probe(struct db *db) {
        _cleanup_free_ char *sql = xasprintf("PRAGMA user_version = %d", db_version());
        int r = db_begin(db, false, NULL);

        if (r < 0)
                return; /* noted */
        /* Writes the first page, also when nothing in it changes. */
        int code = sqlite.exec(db->connection, sql, NULL, NULL, NULL);
        (void)db_end(db, code == SQLITE_OK ? 0 : db_error(db, code, NULL, "write to"), NULL);
}
