/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Opening the file. SQLite's locking mode is EXCLUSIVE: one daemon has it, the kernel gives it back when that dies, and
 * the index of the write-ahead log is in our memory, not in a mapped file that a full disk could tear a hole into. The
 * file is never opened but by SQLite: closing it would give back SQLite's own lock (fcntl(2)).
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "db/private.h"

/* How long a daemon that is just ending may still have it. */
#define BUSY_TIMEOUT 500 /* ms */
/* Checked whole in about 15 ms. What makes bigger ones big is the history; the rest of 10,000 jobs takes 10 ms. */
#define CHECKED_WHOLE ((off_t)4 << 20) /* bytes */

char *db_damaged_mark(const struct db *db) {
        return xasprintf("%s.damaged", db->path);
}

void db_disconnect(struct db *db) {
        for (size_t i = 0; i < db->n_cached; i++)
                (void)sqlite.finalize(db->cached[i].statement);
        free(db->cached);
        db->cached = NULL;
        db->n_cached = db->room_cached = 0;
        int code = sqlite.close(db->connection);
        assert(code == SQLITE_OK); /* else a statement was forgotten, and the lock is held for ever */
        (void)code;
        db->connection = NULL;
}

static int run(struct db *db, const char *sql, const char *what, struct st_error **err) {
        int code = sqlite.exec(db->connection, sql, NULL, NULL, NULL);

        return code == SQLITE_OK ? 0 : db_error(db, code, err, what);
}

/* The only number that a statement gives. */
static int get_number(struct db *db, const char *sql, int64_t *ret, struct st_error **err) {
        sqlite3_stmt *statement;
        int code = sqlite.prepare_v3(db->connection, sql, -1, 0, &statement, NULL);

        if (code != SQLITE_OK)
                return db_error(db, code, err, "open");
        code = sqlite.step(statement);
        *ret = code == SQLITE_ROW ? sqlite.column_int64(statement, 0) : 0;
        int r = code == SQLITE_ROW || code == SQLITE_DONE ? 0 : db_error(db, code, err, "open");
        (void)sqlite.finalize(statement);
        return r;
}

/* Ours, and of no newer layout? Reads the first page, so it fails for what is no database. */
static int check_version(struct db *db, int64_t *ret, struct st_error **err) {
        int64_t application, tables;
        int r = get_number(db, "PRAGMA user_version", ret, err);

        if (r >= 0)
                r = get_number(db, "PRAGMA application_id", &application, err);
        if (r >= 0)
                r = get_number(db, "SELECT count(*) FROM sqlite_schema", &tables, err);
        if (r < 0)
                return r;
        if (application == DB_APPLICATION ? *ret <= 0 : tables > 0 || *ret || application) {
                st_error_set(err, EINVAL, "%s is a database of another program", db->path);
                st_error_hint(err, "choose another file by --db or the config key DB.Path");
                return -EINVAL;
        }
        if (*ret <= db_version())
                return 0;
        st_error_set(err, EPROTONOSUPPORT, "%s was written by a newer stasis: its layout is %lld, this one knows %d",
                     db->path, (long long)*ret, db_version());
        st_error_hint(err, "install that version again, or choose another file by --db or the config key DB.Path");
        return -EPROTONOSUPPORT;
}

/*
 * Finds damage before somebody relies on it. The history, which grows, is left out of a check of big files, unless
 * damage was met before.
 */
static int check_pages(struct db *db, struct st_error **err) {
        _cleanup_free_ char *mark = db_damaged_mark(db);
        struct stat st;
        bool marked = access(mark, F_OK) == 0;

        if (marked) {
                int r = db_check(db, err);
                if (r >= 0)
                        (void)unlink(mark);
                return r;
        }
        bool whole = stat(db->path, &st) == 0 && st.st_size <= CHECKED_WHOLE;
        static const char *const all[] = { "PRAGMA quick_check(1)", NULL }, *const most[] = {
                "PRAGMA quick_check(jobs)", "PRAGMA quick_check(checkpoints)", "PRAGMA quick_check(hosts)", NULL
        };
        for (const char *const *check = whole ? all : most; *check; check++) {
                sqlite3_stmt *statement;
                int code = sqlite.prepare_v3(db->connection, *check, -1, 0, &statement, NULL);

                if (code != SQLITE_OK)
                        return db_error(db, code, err, "check");
                code = sqlite.step(statement);
                bool good = code == SQLITE_ROW && streq((const char *)sqlite.column_text(statement, 0), "ok");
                if (code == SQLITE_ROW && !good)
                        st_error_set(err, EBADMSG, "the database %s is damaged: %s", db->path,
                                     (const char *)sqlite.column_text(statement, 0));
                (void)sqlite.finalize(statement);
                if (!good)
                        return code == SQLITE_ROW ? -EBADMSG : db_error(db, code, err, "check");
        }
        return 0;
}

/* What fails because nothing can be written: then there may still be something to read. */
static int cannot_make(const char *what, const char *path, int number, struct st_error **err) {
        switch (number) {
        case EACCES:
        case EPERM:
        case EROFS:
                return st_error_set(err, EROFS, "cannot make the %s %s: %s", what, path, strerror(number));
        case EDQUOT:
        case ENOSPC:
                return st_error_set(err, ENOSPC, "cannot make the %s %s: %s", what, path, strerror(number));
        default:
                return st_error_errno(err, number, "cannot make the %s %s", what, path);
        }
}

/* SQLite would make it readable for all. The -wal gets its mode of the file. */
static int make_private(const char *path, struct st_error **err) {
        static const char *const suffixes[] = { "", "-wal", "-journal" };
        _cleanup_free_ char *directory = path_directory(path);
        int r = io_make_directories(directory, 0700);

        if (r < 0)
                return cannot_make("directory of the database,", directory, -r, err);
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0) {
                close(fd);
                return 0;
        }
        if (errno != EEXIST)
                return cannot_make("database", path, errno, err);
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                _cleanup_free_ char *file = xasprintf("%s%s", path, suffixes[i]);
                struct stat st;

                if (stat(file, &st) == 0 && (st.st_mode & 077))
                        (void)chmod(file, 0600); /* another user's: then it is that user's business */
        }
        return 0;
}

static int connect_to(struct db *db, const char *name, int flags, const char *vfs, struct st_error **err) {
        int code = sqlite.open_v2(name, &db->connection, flags | SQLITE_OPEN_NOMUTEX, vfs);

        if (code != SQLITE_OK)
                return db_error(db, code, err, "open");
        (void)sqlite.extended_result_codes(db->connection, 1);
        return run(db, "PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = ON;", "open",
                   err);
}

static int lock_and_migrate(struct db *db, bool check, struct st_error **err) {
        int64_t version;
        int r;

        if (sqlite.db_readonly(db->connection, "main"))
                return db_error(db, SQLITE_READONLY, err, "write to");
        (void)sqlite.busy_timeout(db->connection, BUSY_TIMEOUT);
        r = run(db, "PRAGMA locking_mode = EXCLUSIVE", "open", err);
        if (r >= 0)
                r = check_version(db, &version, err);
        if (r >= 0)
                r = run(db,
                        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                        "PRAGMA journal_size_limit = 4194304;",
                        "open", err);
        if (r >= 0 && check)
                r = check_pages(db, err);
        if (r < 0)
                return r;
        int code = db_migrate(db->connection, version);
        return code == SQLITE_OK ? 0 : db_error(db, code, err, "migrate");
}

int db_open_writable(struct db *db, bool check, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;
        int r = make_private(db->path, &error);

        if (r >= 0)
                r = connect_to(db, db->path, SQLITE_OPEN_READWRITE, NULL, &error);
        if (r >= 0)
                r = lock_and_migrate(db, check, &error);
        if (r == -EBUSY) {
                st_error_set(err, EBUSY, "another daemon uses the database %s", db->path);
                st_error_hint(err, "stop it, or whatever program has the file open; or choose another file by --db or "
                                   "the config key DB.Path");
                return r;
        }
        if (r < 0) {
                (void)st_error_move(err, TAKE_PTR(error));
                return r;
        }
        db->read_only = false;
        db_probe(db);
        return 0;
}

static int copy_to_memory(struct db *db, struct st_error **err) {
        struct db copy = { .path = db->path };
        int64_t version;
        int r = connect_to(&copy, ":memory:", SQLITE_OPEN_READWRITE, NULL, err);

        if (r >= 0 && db->connection) {
                sqlite3_backup *backup = sqlite.backup_init(copy.connection, "main", db->connection, "main");
                int code = backup ? sqlite.backup_step(backup, -1) : SQLITE_ERROR;

                if (backup)
                        (void)sqlite.backup_finish(backup);
                if (code != SQLITE_DONE)
                        r = db_error(&copy, code, err, "copy");
        }
        if (r >= 0)
                r = check_version(&copy, &version, err);
        if (r >= 0) {
                int code = db_migrate(copy.connection, version);
                if (code != SQLITE_OK)
                        r = db_error(&copy, code, err, "migrate a copy of");
        }
        db_note_problem(&copy, 0, NULL);
        db_disconnect(r >= 0 ? db : &copy);
        if (r >= 0)
                db->connection = copy.connection;
        return r;
}

int db_open_empty(struct db *db, struct st_error **err) {
        db_disconnect(db);
        db->read_only = true;
        return copy_to_memory(db, err);
}

/* An URI of SQLite's: it can say that nobody changes the file, so that no log is looked for. */
static char *immutable_uri(const char *path) {
        struct strv uri = { 0 };
        char *text;

        strv_add(&uri, "file:");
        for (const char *p = path; *p; p++)
                strv_addf(&uri, strchr("%?#", *p) ? "%%%02X" : "%c", (unsigned char)*p);
        strv_add(&uri, "?immutable=1");
        text = strv_join(&uri, "");
        strv_clear(&uri);
        return text;
}

int db_open_read_only(struct db *db, struct st_error **err) {
        _cleanup_free_ char *wal = xasprintf("%s-wal", db->path), *uri = immutable_uri(db->path);
        struct stat st;
        int64_t version;
        int r;

        db_disconnect(db);
        db->read_only = true;
        if (stat(db->path, &st) < 0 || st.st_size == 0)
                return db_open_empty(db, err);
        /* What a killed daemon left in the log counts. It is read without the lock, which needs a file to write to. */
        if (stat(wal, &st) == 0 && st.st_size > 0)
                r = connect_to(db, db->path, SQLITE_OPEN_READONLY, "unix-none", err);
        else
                r = connect_to(db, uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL, err);
        if (r >= 0)
                r = run(db, "PRAGMA locking_mode = EXCLUSIVE", "open", err);
        if (r >= 0)
                r = check_version(db, &version, err);
        if (r >= 0)
                r = check_pages(db, err);
        return r < 0 || version == db_version() ? r : copy_to_memory(db, err);
}
