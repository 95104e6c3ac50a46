/* SPDX-License-Identifier: Apache-2.0 */

/* Work directories: what nobody uses any more is removed with its partial checkpoint; what is in use stays. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "engine/work_dir.h"

static char root[] = "/tmp/stasis-test.XXXXXX";

static int setup(void **unused) {
        (void)unused;
        if (!mkdtemp(root))
                return -1;
        return setenv("STASIS_RUN_DIR", root, 1);
}

static int teardown(void **unused) {
        (void)unused;
        return io_remove_tree(root);
}

static bool exists(const char *path) {
        return access(path, F_OK) == 0;
}

static char *make_partial(const char *work_dir) {
        char *partial = path_join(root, ".ckpt.partial-1");

        assert_int_equal(work_dir_record_partial(work_dir, partial, NULL), 0);
        assert_int_equal(mkdir(partial, 0700), 0);
        return partial;
}

static void test_own(void **unused) {
        (void)unused;
        _cleanup_free_ char *a = NULL, *b = NULL;

        assert_int_equal(work_dir_new(&a, NULL), 0);
        assert_int_equal(work_dir_new(&b, NULL), 0);
        assert_string_not_equal(a, b);
        /* Between being made and being locked it is young, and left alone. */
        assert_int_equal(work_dir_clean(a), -EBUSY);
        int lock = work_dir_lock(a, NULL);
        assert_true(lock >= 0);
        assert_int_equal(work_dir_clean(a), -EBUSY);
        close(lock);
        assert_int_equal(work_dir_clean(a), 0);
        assert_false(exists(a));
        close(work_dir_lock(b, NULL));
        assert_int_equal(work_dir_clean(b), 0);
}

static void test_killed(void **unused) {
        (void)unused;
        _cleanup_free_ char *dir = NULL, *partial = NULL;
        int ready[2], status;

        assert_int_equal(work_dir_new(&dir, NULL), 0);
        partial = make_partial(dir);
        assert_int_equal(pipe(ready), 0);
        pid_t child = fork();
        if (child == 0) {
                (void)work_dir_lock(dir, NULL);
                (void)!write(ready[1], "x", 1);
                for (;;)
                        pause();
        }
        char byte;
        assert_int_equal(read(ready[0], &byte, 1), 1);
        work_dir_clean_stale(NULL);
        assert_true(exists(dir));
        assert_true(exists(partial));

        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        work_dir_clean_stale(NULL);
        assert_false(exists(dir));
        assert_false(exists(partial));
        close(ready[0]);
        close(ready[1]);
}

/** A record is only believed when it names what stasis itself would have made. */
static void test_foreign_record(void **unused) {
        (void)unused;
        _cleanup_free_ char *dir = NULL, *precious = path_join(root, "precious");

        assert_int_equal(mkdir(precious, 0700), 0);
        assert_int_equal(work_dir_new(&dir, NULL), 0);
        assert_int_equal(work_dir_record_partial(dir, precious, NULL), 0);
        close(work_dir_lock(dir, NULL));
        assert_int_equal(work_dir_clean(dir), 0);
        assert_true(exists(precious));
}

/** All that was recorded goes, also what was never made; what is no hidden name of ours stays. */
static void test_several(void **unused) {
        (void)unused;
        _cleanup_free_ char *dir = NULL, *never = path_join(root, ".a.partial-1"), *precious = path_join(root, "other");
        char *made[20];

        assert_int_equal(work_dir_new(&dir, NULL), 0);
        assert_int_equal(mkdir(precious, 0700), 0);
        assert_int_equal(work_dir_record_partial(dir, never, NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(made); i++) {
                made[i] = xasprintf("%s/.several-%zu.partial-1", root, i);
                assert_int_equal(work_dir_record_partial(dir, made[i], NULL), 0);
                assert_int_equal(work_dir_record_partial(dir, precious, NULL), 0);
                assert_int_equal(mkdir(made[i], 0700), 0);
        }
        close(work_dir_lock(dir, NULL));
        assert_int_equal(work_dir_clean(dir), 0);
        for (size_t i = 0; i < ELEMENTSOF(made); i++) {
                assert_false(exists(made[i]));
                free(made[i]);
        }
        assert_true(exists(precious));
        assert_false(exists(dir));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_own),
                cmocka_unit_test(test_killed),
                cmocka_unit_test(test_foreign_record),
                cmocka_unit_test(test_several),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
