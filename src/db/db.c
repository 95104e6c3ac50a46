/* SPDX-License-Identifier: Apache-2.0 */

/* The database as a whole: found, made, moved aside when it is damaged; what ails it. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "db/private.h"

/* How long somebody else may take to open it. */
#define OPENING_TIMEOUT 5000 /* ms */

/*
 * One opens at a time: two that find the same damage must not move aside each other's new file. A file system without
 * locks, or no directory: then without.
 */
static int lock_directory(const char *directory, struct st_error **err) {
        _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        for (int waited = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK; waited += 10) {
                if (waited >= OPENING_TIMEOUT)
                        return st_error_set(err, EBUSY, "another process has locked the directory %s", directory);
                (void)usleep(10 * 1000);
        }
        return TAKE_FD(fd);
}

static int check_file(const char *path, struct st_error **err) {
        struct stat st;

        if (stat(path, &st) < 0 || S_ISREG(st.st_mode))
                return 0;
        st_error_set(err, S_ISDIR(st.st_mode) ? EISDIR : EINVAL, "cannot open the database %s: it is %s", path,
                     S_ISDIR(st.st_mode) ? "a directory" : "no regular file");
        st_error_hint(err, "choose another file by --db or the config key DB.Path");
        return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
}

/* The database is the last to go: without its log it would be another one. */
static int move_aside(const char *path, char **ret_moved, struct st_error **err) {
        static const char *const suffixes[] = { "-wal", "-shm", "-journal", ".damaged", "" };
        _cleanup_free_ char *moved = NULL;
        char when[32];
        time_t now = time(NULL);
        struct tm tm;

        (void)strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
        moved = xasprintf("%s.corrupt-%s", path, when);
        for (int i = 2; access(moved, F_OK) == 0; i++) {
                free(moved);
                moved = xasprintf("%s.corrupt-%s-%d", path, when, i);
        }
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                _cleanup_free_ char *from = xasprintf("%s%s", path, suffixes[i]),
                                    *to = xasprintf("%s%s", moved, suffixes[i]);

                if (rename(from, to) < 0 && errno != ENOENT)
                        return st_error_errno(err, errno, "cannot move the damaged database %s aside", path);
        }
        (void)io_sync_directory_of(path);
        *ret_moved = TAKE_PTR(moved);
        return 0;
}

/* What cannot be written is opened all the same; what is damaged then, too, is as if it were not there. */
static int open_somehow(struct db *db, char **ret_moved, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;
        int r = db_open_writable(db, true, &error);

        if (r == -EBADMSG) {
                db_disconnect(db);
                if (move_aside(db->path, ret_moved, &error) < 0) {
                        db_note_problem(db, EROFS, "it is damaged, and cannot be moved aside");
                        return db_open_empty(db, err);
                }
                error = st_error_free(error);
                r = db_open_writable(db, true, &error);
        }
        if (r == -EROFS || r == -ENOSPC) {
                int number = -r;
                if (!db->problem)
                        db_note_problem(db, number, r == -ENOSPC ? "no space left on device" : "read-only file system");
                error = st_error_free(error);
                r = db_open_read_only(db, &error);
                if (r == -EBADMSG) {
                        db_note_problem(db, number, "it is damaged, and cannot be moved aside");
                        return db_open_empty(db, err);
                }
        }
        return r < 0 ? st_error_move(err, TAKE_PTR(error)) : 0;
}

int db_open(const char *path, struct db **ret, char **ret_moved, struct st_error **err) {
        _cleanup_(db_closep) struct db *db = NULL;
        _cleanup_free_ char *directory = NULL;
        int r = sqlite_load(err);

        *ret = NULL;
        *ret_moved = NULL;
        if (r < 0)
                return r;
        db = NEW(struct db);
        db->path = path_absolute(path);
        directory = path_directory(db->path);
        (void)io_make_directories(directory, 0700); /* to be locked; db_open_writable() tells why it cannot */
        _cleanup_close_ int lock = lock_directory(directory, err);
        if (lock == -EBUSY)
                return lock;
        r = check_file(db->path, err);
        if (r >= 0)
                r = open_somehow(db, ret_moved, err);
        if (r < 0) {
                free(*ret_moved);
                *ret_moved = NULL;
                return r;
        }
        *ret = TAKE_PTR(db);
        return 0;
}

struct db *db_close(struct db *db) {
        if (!db)
                return NULL;
        db_disconnect(db);
        message_freep(&db->this_host);
        free(db->problem);
        free(db->path);
        free(db);
        return NULL;
}

const char *db_problem(struct db *db) {
        if (db->problem)
                db_probe(db);
        return db->problem;
}

int db_check(struct db *db, struct st_error **err) {
        static const char *const checks[] = { "PRAGMA integrity_check(1)", "PRAGMA foreign_key_check" };

        for (size_t i = 0; i < ELEMENTSOF(checks); i++) {
                _cleanup_statement_ sqlite3_stmt *statement = NULL;
                int r = db_statement(db, checks[i], &statement, err);

                if (r >= 0)
                        r = db_step(db, statement, err);
                if (r < 0)
                        return r;
                const char *said = r > 0 ? (const char *)sqlite.column_text(statement, 0) : "ok";
                if (!said || !streq(said, "ok"))
                        return st_error_set(err, EBADMSG, "the database %s is damaged: %s", db->path,
                                            i == 0 ? said : "a row refers to one that is not there");
        }
        return 0;
}
