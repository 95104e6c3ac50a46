/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Read-only and full file systems (mounted in a mount namespace of the test's own), and a write that fails: the first,
 * the second, … of a whole life of a job. What was acknowledged is there; what failed is not.
 */

#include "test_db_common.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "db/sqlite.h"

static bool may_mount;

static int setup(void **state) {
        (void)state;
        may_mount = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
        return 0;
}

static int disk_setup(void **state) {
        int r = place_setup(state);
        struct place *place = *state;

        if (r == 0 && may_mount)
                r = mount("stasis-test", place->dir, "tmpfs", 0, "size=1m,nr_inodes=64,mode=0700");
        return r;
}

static int disk_teardown(void **state) {
        struct place *place = *state;

        if (may_mount && umount(place->dir) < 0)
                return -1;
        return place_teardown(state);
}

static void skip_without_mounts(void) {
        if (!may_mount)
                skip();
}

static void set_read_only(const char *dir, bool on) {
        if (mount(NULL, dir, NULL, MS_REMOUNT | (on ? MS_RDONLY : 0), NULL) < 0)
                fail_msg("cannot remount: %s", strerror(errno));
}

/* A database with the jobs a and b; b stands in its log only, for its daemon was killed. */
static void make_killed(const char *path) {
        _cleanup_free_ char *wal = xasprintf("%s-wal", path);
        struct db *db = open_db(path);

        assert_ok(add_job(db, "a", err));
        db_close(db);
        pid_t child = fork();
        if (child == 0) {
                char *moved;
                _exit(db_open(path, &db, &moved, NULL) == 0 && add_job(db, "b", NULL) == 0 ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_int_equal(access(wal, F_OK), 0);
}

/* Everything that writes says the same, and what was there can be read. */
static void assert_read_only(struct db *db, int number, const char *text) {
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = new_checkpoint("c", "a", 1);
        _cleanup_(message_freep) Daemon__JobPolicy *policy = message_new(&daemon__job_policy__descriptor);
        _cleanup_(message_freep) Daemon__Host *host = message_new(&daemon__host__descriptor);

        assert_non_null(db_problem(db));
        assert_string_equal(db_problem(db), text);
        assert_fails(add_job(db, "new", err), number, text);
        assert_fails(change_job(db, "a", STASIS__V1__JOB_STATE__LOST, err), number, text);
        assert_fails(db_job_set_policy(db, "a", policy, err), number, text);
        assert_fails(db_job_set_problem(db, "a", "x", err), number, text);
        assert_fails(db_job_delete(db, "a", err), number, text);
        assert_fails(db_checkpoint_begin(db, info, "op", err), number, text);
        assert_fails(db_checkpoint_ready(db, info, err), number, text);
        assert_fails(db_checkpoint_delete(db, "c", err), number, text);
        assert_fails(db_host_seen(db, host, err), number, text);
        assert_false(db_job_exists(db, "new"));
}

static void assert_writable(struct db *db) {
        assert_null(db_problem(db));
        assert_ok(add_job(db, "new", err));
        assert_true(db_job_exists(db, "new"));
        assert_null(db_problem(db));
        assert_ok(db_check(db, err));
}

/* The log of a killed daemon counts, and once it can be written it is, without being opened again. */
static void test_read_only(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = NULL;

        skip_without_mounts();
        for (int killed = 1; killed >= 0; killed--) {
                if (killed)
                        make_killed(place->path);
                else
                        db_close(open_db(place->path)); /* leaves no log */
                set_read_only(place->dir, true);
                db = open_db(place->path);
                assert_read_only(db, EROFS, "read-only file system");
                assert_true(db_job_exists(db, "a"));
                assert_true(db_job_exists(db, "b"));
                set_read_only(place->dir, false);
                assert_true(db_job_exists(db, "a"));
                assert_writable(db);
                assert_true(db_job_exists(db, "a") && db_job_exists(db, "b"));
                assert_ok(db_job_delete(db, "new", err));
                db_close(TAKE_PTR(db));
        }
}

/* A write finds out, too, that it can be written again. */
static void test_write_recovers(void **state) {
        struct place *place = *state;
        _cleanup_(message_freep) Daemon__Host *host = message_new(&daemon__host__descriptor);
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = new_checkpoint("c", "", 1), *got = NULL;

        skip_without_mounts();
        make_killed(place->path);
        set_read_only(place->dir, true);
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        message_set_string(&host->hostname, "here");
        assert_fails(db_host_seen(db, host, err), EROFS, "read-only");
        set_read_only(place->dir, false);
        assert_ok(db_checkpoint_begin(db, info, "op", err));
        assert_ok(db_checkpoint_ready(db, info, err));
        /* What could not be written of the machine was not forgotten. */
        assert_ok(db_checkpoint_get(db, "c", &got, err));
        assert_string_equal(got->host, "here");
        assert_null(db_problem(db));
}

static void test_read_only_without(void **state) {
        struct place *place = *state;
        _cleanup_free_ char *below = path_join(place->dir, "not/there/x.db");
        const char *paths[] = { place->path, below };

        skip_without_mounts();
        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                set_read_only(place->dir, true);
                _cleanup_(db_closep) struct db *db = open_db(paths[i]);
                assert_read_only(db, EROFS, "read-only file system");
                set_read_only(place->dir, false);
                assert_writable(db);
        }
}

static void test_read_only_damaged(void **state) {
        struct place *place = *state;

        skip_without_mounts();
        assert_int_equal(io_replace_file(place->path, "no database", 11, 0600, false), 0);
        set_read_only(place->dir, true);
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        assert_read_only(db, EROFS, "it is damaged, and cannot be moved aside");
}

static void fill(const char *path) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        static const char bytes[4096] = { 1 };

        while (write(fd, bytes, sizeof(bytes)) > 0)
                ;
        assert_int_equal(errno, ENOSPC);
}

/* Writes until the disk is full. @return how many jobs there are */
static int add_until_full(struct db *db) {
        char jid[16];

        for (int i = 0;; i++) {
                _cleanup_error_ struct st_error *err = NULL;

                snprintf(jid, sizeof(jid), "job%d", i);
                int r = add_job(db, jid, &err);
                if (r == 0)
                        continue;
                assert_int_equal(r, -ENOSPC);
                assert_false(db_job_exists(db, jid));
                return i;
        }
}

/* What is larger than the last free page fails; what is smaller may still fit. */
static void assert_full(struct db *db) {
        _cleanup_(message_freep) Stasis__V1__JobSpec *spec = new_spec("big");
        _cleanup_free_ char *log = xcalloc(1, 40001);

        memset(log, 'x', 40000);
        message_set_string(&spec->log, log);
        assert_fails(db_job_add(db, spec, err), ENOSPC, "no space left on device (hint: make room");
        assert_false(db_job_exists(db, "big"));
}

static void test_full(void **state) {
        struct place *place = *state;
        _cleanup_free_ char *filler = path_join(place->dir, "filler");
        uint64_t counts[JOB_STATES];

        skip_without_mounts();
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        assert_ok(add_job(db, "a", err));
        fill(filler);
        int n = add_until_full(db);
        assert_full(db);
        /* Opened while it is full. */
        for (int i = 0; i < 2; i++) {
                assert_ok(db_job_count(db, counts, err));
                assert_int_equal(counts[STASIS__V1__JOB_STATE__STARTING], n + 1);
                assert_true(db_job_exists(db, "a"));
                db_close(db);
                db = open_db(place->path);
        }
        (void)add_until_full(db); /* its log may be shorter now: a few more */
        assert_full(db);
        assert_int_equal(unlink(filler), 0);
        assert_writable(db);
        fill(filler);
        assert_ok(db_check(db, err));
}

static void test_full_without(void **state) {
        struct place *place = *state;
        _cleanup_free_ char *filler = path_join(place->dir, "filler");

        skip_without_mounts();
        fill(filler);
        _cleanup_(db_closep) struct db *db = open_db(place->path);
        assert_read_only(db, ENOSPC, "no space left on device");
        assert_int_equal(unlink(filler), 0);
        assert_writable(db);
        db_close(db);
        db = open_db(place->path);
        assert_true(db_job_exists(db, "new"));
}

/* Writes of SQLite's, counted down; the one that is reached fails. */
static int writes_left = -1, write_error;
static bool write_failed;
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);

static ssize_t failing_pwrite(int fd, const void *data, size_t size, off_t offset) {
        if (writes_left == 0) {
                errno = write_error; /* and so does each after it */
                write_failed = true;
                return -1;
        }
        if (writes_left > 0)
                writes_left--;
        return real_pwrite(fd, data, size, offset);
}

static int syncs;
static int (*real_sync)(sqlite3_file *, int);
static int (*real_open)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *);
static sqlite3_io_methods methods[2]; /* journals have others than databases */

static int counting_sync(sqlite3_file *file, int flags) {
        syncs++;
        return real_sync(file, flags);
}

static int counting_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags) {
        int code = real_open(vfs, name, file, flags, ret_flags);

        sqlite3_io_methods *own = &methods[(flags & SQLITE_OPEN_MAIN_DB) != 0];
        if (code == SQLITE_OK) {
                *own = *file->pMethods;
                real_sync = own->xSync;
                own->xSync = counting_sync;
                file->pMethods = own;
        }
        return code;
}

static sqlite3_vfs *find_vfs(void) {
        sqlite3_vfs *(*find)(const char *);

        assert_int_equal(sqlite_load(NULL), 0);
        void *library = dlopen("libsqlite3.so.0", RTLD_NOW | RTLD_NOLOAD);
        assert_non_null(library);
        void *symbol = dlsym(library, "sqlite3_vfs_find");
        memcpy(&find, &symbol, sizeof(find));
        dlclose(library);
        return find(NULL);
}

static int faults_setup(void **state) {
        sqlite3_vfs *vfs = find_vfs();
        sqlite3_syscall_ptr real = vfs->xGetSystemCall(vfs, "pwrite64") ?: vfs->xGetSystemCall(vfs, "pwrite");

        memcpy(&real_pwrite, &real, sizeof(real));
        vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)failing_pwrite);
        vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)failing_pwrite);
        real_open = vfs->xOpen;
        vfs->xOpen = counting_open;
        return place_setup(state);
}

static int faults_teardown(void **state) {
        sqlite3_vfs *vfs = find_vfs();

        vfs->xSetSystemCall(vfs, NULL, NULL);
        vfs->xOpen = real_open;
        return place_teardown(state);
}

/* The steps of a life, each with how it is told afterwards that it happened. */
static int take_step(struct db *db, int step) {
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = new_checkpoint("c", "a", 1);

        switch (step) {
        case 0:
                return add_job(db, "a", NULL);
        case 1:
                return change_job(db, "a", STASIS__V1__JOB_STATE__RUNNING, NULL);
        case 2:
                return db_checkpoint_begin(db, info, "op", NULL);
        case 3:
                return db_checkpoint_ready(db, info, NULL);
        case 4:
                return change_job(db, "a", STASIS__V1__JOB_STATE__EXITED, NULL);
        default:
                return db_job_delete(db, "a", NULL);
        }
}
#define STEPS 6

static int count_begun(const Stasis__V1__CheckpointInfo *info, const char *operation, void *userdata) {
        (void)info;
        (void)operation;
        ++*(int *)userdata;
        return 0;
}

/* @return how many steps seem to have been taken */
static int steps_taken(struct db *db) {
        _cleanup_(db_job_clear) struct db_job job = { 0 };
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *got = NULL;
        int begun = 0;

        assert_ok(db_checkpoint_each_begun(db, count_begun, &begun, err));
        bool ready = db_checkpoint_get(db, "c", &got, NULL) == 0;
        if (db_job_get(db, "a", &job, NULL) < 0)
                return ready ? 6 : 0;
        if (job.state == STASIS__V1__JOB_STATE__EXITED)
                return 5;
        return job.state == STASIS__V1__JOB_STATE__STARTING ? 1 : ready ? 4 : begun ? 3 : 2;
}

/* @return was the failing write reached? */
static bool live_with_fault(const char *path, int n, int number) {
        _cleanup_(db_closep) struct db *db = NULL;
        _cleanup_free_ char *moved = NULL;
        int taken = 0;

        writes_left = n;
        write_error = number;
        write_failed = false;
        if (db_open(path, &db, &moved, NULL) == 0)
                while (taken < STEPS && take_step(db, taken) == 0)
                        taken++;
        bool reached = write_failed;
        assert_null(moved);
        assert_true(reached || taken == STEPS);
        if (db) {
                assert_int_equal(steps_taken(db), taken);
                if (!db_problem(db) != !reached)
                        fail_msg("write %d failed with %d: %s", n, number, db_problem(db) ?: "no problem");
        }
        if (n % 2) { /* it ends while writes fail, or goes on */
                db = db_close(db);
                writes_left = -1;
        }
        writes_left = -1;
        if (!db)
                db = open_db(path);
        if (db_problem(db))
                fail_msg("write %d failed with %d: still: %s", n, number, db_problem(db));
        if (steps_taken(db) != taken)
                fail_msg("write %d: %d steps were acknowledged, %d taken", n, taken, steps_taken(db));
        while (taken < STEPS)
                assert_int_equal(take_step(db, taken++), 0);
        assert_ok(db_check(db, err));
        assert_int_equal(db_checkpoint_delete(db, "c", NULL), 0);
        return reached;
}

static void test_failing_writes(void **state) {
        struct place *place = *state;
        static const int numbers[] = { ENOSPC, EIO };

        for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
                int n = 0;

                for (int fresh = 1; fresh >= 0; fresh--) {
                        for (n = 0; live_with_fault(place->path, n, numbers[i]); n++)
                                if (fresh)
                                        assert_int_equal(unlink(place->path), 0);
                        assert_true(n > 10);
                }
                assert_int_equal(unlink(place->path), 0);
        }
}

/* Only what must survive a loss of power is synced: that costs milliseconds. */
static void test_synced(void **state) {
        struct place *place = *state;
        _cleanup_(db_closep) struct db *db = open_db(place->path);

        for (int round = 0; round < 3; round++)
                for (int step = 0; step <= STEPS; step++) {
                        syncs = 0;
                        assert_int_equal(step < STEPS ? take_step(db, step) : db_checkpoint_delete(db, "c", NULL), 0);
                        if ((step == 2 || step == 3) != (syncs > 0))
                                fail_msg("round %d, step %d: synced %d times", round, step, syncs);
                }
}

int main(void) {
#define DISK(f) cmocka_unit_test_setup_teardown(f, disk_setup, disk_teardown)
#define FAULTS(f) cmocka_unit_test_setup_teardown(f, faults_setup, faults_teardown)
        const struct CMUnitTest tests[] = {
                DISK(test_read_only),         DISK(test_write_recovers), DISK(test_read_only_without),
                DISK(test_read_only_damaged), DISK(test_full),           DISK(test_full_without),
                FAULTS(test_failing_writes),  FAULTS(test_synced),
        };
        return cmocka_run_group_tests(tests, setup, NULL);
}
