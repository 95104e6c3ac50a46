/* SPDX-License-Identifier: Apache-2.0 */

/* Whatever lies at the path of the database: it is used, moved aside or refused; nothing is ever lost by that. */

#include "test_db_common.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "db/sqlite.h"

static mode_t mode_of(const char *path) {
        struct stat st;

        if (stat(path, &st) < 0)
                fail_msg("%s: %s", path, strerror(errno));
        return st.st_mode & 07777;
}

static void put_file(const char *path, const void *data, size_t size) {
        assert_int_equal(io_replace_file(path, data, size, 0644, false), 0);
}

/* Writes over a part of a file; behind its end: makes it longer. */
static void overwrite(const char *path, off_t offset, int byte, size_t size) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        _cleanup_free_ char *bytes = xmalloc(size);

        memset(bytes, byte, size);
        assert_true(fd >= 0 && pwrite(fd, bytes, size, offset) == (ssize_t)size);
}

static void make_db(const char *path, int jobs) {
        _cleanup_(db_closep) struct db *db = open_db(path);
        char jid[16];

        for (int i = 0; i < jobs; i++) {
                snprintf(jid, sizeof(jid), "job%d", i);
                assert_ok(add_job(db, jid, err));
        }
}

static void assert_moved_aside(const char *path) {
        _cleanup_(db_closep) struct db *db = NULL;
        _cleanup_free_ char *before = NULL, *after = NULL, *moved = NULL;
        size_t before_size, after_size;

        assert_int_equal(io_read_file(AT_FDCWD, path, 1 << 24, &before, &before_size), 0);
        assert_ok(db_open(path, &db, &moved, err));
        assert_non_null(moved);
        assert_non_null(strstr(moved, "/stasis.db.corrupt-"));
        assert_int_equal(io_read_file(AT_FDCWD, moved, 1 << 24, &after, &after_size), 0);
        assert_int_equal(before_size, after_size);
        assert_memory_equal(before, after, after_size);
        /* The new one is sound, and empty. */
        assert_false(db_job_exists(db, "job0"));
        assert_ok(add_job(db, "job0", err));
        assert_ok(db_check(db, err));
        assert_null(db_problem(db));
}

static void test_modes(void **state) {
        struct place *place = *state;
        _cleanup_free_ char *dir = path_join(place->dir, "a%20?b#c/d"), *path = path_join(dir, "x.db"),
                            *wal = xasprintf("%s-wal", path);
        _cleanup_(db_closep) struct db *db = open_db(path);

        assert_int_equal(mode_of(dir), 0700);
        assert_int_equal(mode_of(path), 0600);
        assert_int_equal(mode_of(wal), 0600);
        db_close(TAKE_PTR(db));
        assert_int_not_equal(access(wal, F_OK), 0);
        assert_int_equal(chmod(path, 0644), 0);
        db_close(open_db(path));
        assert_int_equal(mode_of(path), 0600);
}

static void test_empty(void **state) {
        struct place *place = *state;

        put_file(place->path, "", 0);
        make_db(place->path, 1);
}

static void test_no_database(void **state) {
        struct place *place = *state;
        static const char text[] = "This is a letter, and nothing that any database would begin with.\n";

        for (int i = 0; i < 3; i++) { /* within a second: three names */
                put_file(place->path, text, sizeof(text) - 1);
                assert_moved_aside(place->path);
        }
        put_file(place->path, "xy", 2); /* to SQLite a single byte is as nothing */
        assert_moved_aside(place->path);
}

static void test_damaged_header(void **state) {
        struct place *place = *state;

        make_db(place->path, 3);
        overwrite(place->path, 0, 0, 16);
        assert_moved_aside(place->path);
        make_db(place->path, 0);
        overwrite(place->path, 16, 0xff, 80);
        assert_moved_aside(place->path);
}

static void test_truncated(void **state) {
        struct place *place = *state;
        struct stat st;

        make_db(place->path, 500);
        assert_int_equal(stat(place->path, &st), 0);
        assert_int_equal(truncate(place->path, st.st_size / 2 / 4096 * 4096), 0);
        assert_moved_aside(place->path);
}

/* Each page in turn, but for those that hold nothing. */
static void test_damaged_pages(void **state) {
        struct place *place = *state;
        _cleanup_free_ char *whole = NULL;
        size_t size;

        make_db(place->path, 30);
        assert_int_equal(io_read_file(AT_FDCWD, place->path, 1 << 24, &whole, &size), 0);
        assert_true(size >= 10 * (size_t)4096);
        for (size_t at = 0; at < size; at += 4096) {
                put_file(place->path, whole, size);
                overwrite(place->path, (off_t)at, 0xa5, 4096);
                assert_moved_aside(place->path);
        }
}

/* Damage that is met later is an error of that call, and the next start looks at everything. */
static void test_damage_later(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        _cleanup_(message_freep) Stasis__V1__JobInfo *info = message_new(&stasis__v1__job_info__descriptor);
        _cleanup_free_ char *reason = xcalloc(1, 8001), *mark = xasprintf("%s.damaged", place->path), *moved = NULL;
        struct db_job_change change = { .reason = reason };

        memset(reason, 'r', 8000);
        assert_ok(add_job(db, "a", err));
        for (int i = 0; i < 600; i++) {
                change.state = i % 2 ? STASIS__V1__JOB_STATE__RESTORING : STASIS__V1__JOB_STATE__LOST;
                assert_ok(db_job_change(db, "a", &change, err));
        }
        db_close(db);
        db = open_db(place->path);
        /* The last pages read are in memory; those in the middle are not. */
        overwrite(place->path, (off_t)1 << 20, 0xff, 1 << 20);
        assert_fails(db_job_history(db, "a", info, err), EBADMSG, "it is damaged (hint: restart the daemon");
        assert_int_equal(access(mark, F_OK), 0);
        db_close(TAKE_PTR(db));
        assert_ok(db_open(place->path, &db, &moved, err));
        assert_non_null(moved);
        assert_int_not_equal(access(mark, F_OK), 0);
        assert_false(db_job_exists(db, "a"));
}

/* After a check that found nothing the next ones are short again. */
static void test_mark_goes(void **state) {
        struct place *place = *state;
        _cleanup_free_ char *mark = xasprintf("%s.damaged", place->path);

        make_db(place->path, 3);
        put_file(mark, "", 0);
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        assert_true(db_job_exists(db, "job2"));
        assert_int_not_equal(access(mark, F_OK), 0);
}

static void run_sql(const char *path, const char *sql) {
        sqlite3 *connection;

        assert_int_equal(sqlite_load(NULL), 0);
        assert_int_equal(sqlite.open_v2(path, &connection, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL),
                         SQLITE_OK);
        if (sqlite.exec(connection, sql, NULL, NULL, NULL) != SQLITE_OK)
                fail_msg("%s: %s", sql, sqlite.errmsg(connection));
        assert_int_equal(sqlite.close(connection), SQLITE_OK);
}

static int count_job(const struct db_job *job, void *userdata) {
        assert_non_null(job->spec->jid);
        assert_int_equal(!job->spec->type, streq(job->spec->jid, "job1"));
        assert_int_equal(!!job->problem, streq(job->spec->jid, "job1"));
        ++*(int *)userdata;
        return 0;
}

/* One row that cannot be read does not hide the others. */
static void test_damaged_row(void **state) {
        struct place *place = *state;
        int n = 0;

        make_db(place->path, 3);
        run_sql(place->path, "UPDATE jobs SET spec = x'ffffffff' WHERE jid = 'job1'");
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        assert_ok(db_job_each(db, false, count_job, &n, err));
        assert_int_equal(n, 3);
        assert_ok(db_job_delete(db, "job1", err));
}

static void assert_refused(const char *path, int number, const char *text) {
        struct db *db;
        char *moved;

        assert_fails(db_open(path, &db, &moved, err), number, text);
        assert_null(db);
        assert_null(moved);
}

static void test_newer(void **state) {
        struct place *place = *state;
        _cleanup_free_ char *before = NULL, *after = NULL;
        size_t size;

        make_db(place->path, 1);
        run_sql(place->path, "PRAGMA user_version = 1000");
        assert_int_equal(io_read_file(AT_FDCWD, place->path, 1 << 24, &before, &size), 0);
        assert_refused(place->path, EPROTONOSUPPORT, "was written by a newer stasis: its layout is 1000");
        assert_int_equal(io_read_file(AT_FDCWD, place->path, 1 << 24, &after, &size), 0);
        assert_memory_equal(before, after, size);
        run_sql(place->path, "PRAGMA user_version = 3");
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        assert_true(db_job_exists(db, "job0"));
}

/** Of the first layout, which had less of checkpoints. */
static void test_older(void **state) {
        struct place *place = *state;
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *got = NULL;
        struct db *db = open_db(place->path);

        assert_ok(add_job(db, "job0", err));
        assert_ok(add_checkpoint(db, "c", "job0", 5, err));
        db_closep(&db);
        run_sql(place->path,
                "ALTER TABLE checkpoints DROP COLUMN parent; ALTER TABLE checkpoints DROP COLUMN ancestors;"
                "ALTER TABLE checkpoints DROP COLUMN deleting;"
                "PRAGMA user_version = 1");
        db = open_db(place->path);
        assert_ok(db_checkpoint_get(db, "c", &got, err));
        assert_true(isempty(got->parent));
        assert_false(got->has_ancestors);
        db_closep(&db);
}

static void test_foreign(void **state) {
        struct place *place = *state;

        run_sql(place->path, "CREATE TABLE t (x)");
        assert_refused(place->path, EINVAL, "is a database of another program");
        run_sql(place->path, "DROP TABLE t; PRAGMA application_id = 5");
        assert_refused(place->path, EINVAL, "is a database of another program");
        run_sql(place->path, "PRAGMA application_id = 0; PRAGMA user_version = 1");
        assert_refused(place->path, EINVAL, "is a database of another program");
}

static void test_no_file(void **state) {
        struct place *place = *state;
        _cleanup_free_ char *below = path_join(place->path, "below.db");

        assert_int_equal(mkdir(place->path, 0700), 0);
        assert_refused(place->path, EISDIR, "it is a directory");
        assert_int_equal(rmdir(place->path), 0);
        assert_int_equal(mkfifo(place->path, 0600), 0);
        assert_refused(place->path, EINVAL, "it is no regular file");
        assert_refused(below, ENOTDIR, "cannot make the directory");
}

/* The second is told so, and the first does not notice. */
static void test_two(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);

        assert_ok(add_job(db, "a", err));
        assert_refused(place->path, EBUSY, "another daemon uses the database");
        assert_refused(place->path, EBUSY, "another daemon uses the database");
        assert_ok(add_job(db, "b", err));
        db_close(TAKE_PTR(db));
        db = open_db(place->path);
        assert_true(db_job_exists(db, "b"));
}

/* Another process opens it, writes, and waits. */
static pid_t start_holder(const char *path) {
        int ready[2];
        char byte = 0;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid_t child = fork();
        if (child == 0) {
                struct db *db;
                char *moved;
                byte = db_open(path, &db, &moved, NULL) == 0 && add_job(db, "held", NULL) == 0;
                (void)!write(ready[1], &byte, 1);
                for (;;)
                        pause();
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        assert_int_equal(byte, 1);
        return child;
}

static void test_killed_holder(void **state) {
        struct place *place = *state;
        pid_t child = start_holder(place->path);

        assert_refused(place->path, EBUSY, "another daemon uses the database");
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        assert_true(db_job_exists(db, "held"));
}

/* One that is damaged while another has it is that one's business. */
static void test_damaged_and_held(void **state) {
        struct place *place = *state;

        make_db(place->path, 3);
        pid_t child = start_holder(place->path);
        overwrite(place->path, 0, 0, 16);
        assert_refused(place->path, EBUSY, "another daemon uses the database");
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, place_setup, place_teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_modes),       TEST(test_empty),         TEST(test_no_database),   TEST(test_damaged_header),
                TEST(test_truncated),   TEST(test_damaged_pages), TEST(test_damage_later),  TEST(test_mark_goes),
                TEST(test_damaged_row), TEST(test_newer),         TEST(test_older),         TEST(test_foreign),
                TEST(test_no_file),     TEST(test_two),           TEST(test_killed_holder), TEST(test_damaged_and_held),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
