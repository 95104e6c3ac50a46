/* SPDX-License-Identifier: Apache-2.0 */

/* Records of what runs while its memory comes: written, read while they are served and after that, and damaged. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "engine/lazy_record.h"

static char directory[32];

static int set_up(void **state) {
        (void)state;
        (void)snprintf(directory, sizeof(directory), "/tmp/st-record.XXXXXX");
        assert_non_null(mkdtemp(directory));
        return setenv("STASIS_RUN_DIR", directory, 1);
}

static int tear_down(void **state) {
        (void)state;
        return io_remove_tree(directory) < 0 ? -1 : 0;
}

static size_t count_records(void) {
        char **list = lazy_record_list();
        size_t n = 0;

        for (; list && list[n]; n++)
                free(list[n]);
        free(list);
        return n;
}

static void is_read_as_it_was_written(void **state) {
        struct lazy_record record = LAZY_RECORD_NULL;
        struct lazy_record_info info = { 0 };
        _cleanup_free_ char *path = NULL;

        (void)state;
        assert_int_equal(count_records(), 0);
        assert_int_equal(lazy_record_new("/some/where with blanks.stasis", &record, NULL), 0);
        path = xstrdup(record.path);
        assert_int_equal(count_records(), 1);
        assert_int_equal(lazy_record_read(path, &info), 0);
        assert_true(info.served);
        assert_false(lazy_record_is_alive(&info));
        assert_int_equal(info.n + info.done + info.total, 0);
        lazy_record_info_clear(&info);

        lazy_record_add(&record, getpid());
        lazy_record_progress(&record, 12345, UINT64_MAX);
        lazy_record_add(&record, getpid()); /* behind the rest, not over it */
        assert_int_equal(lazy_record_read(path, &info), 0);
        assert_string_equal(info.path, path);
        assert_string_equal(info.image, "/some/where with blanks.stasis");
        assert_int_equal(info.done, 12345);
        assert_true(info.total == UINT64_MAX);
        assert_int_equal(info.n, 2);
        assert_int_equal(info.processes[1].pid, getpid());
        assert_true(lazy_record_is_alive(&info));
        for (size_t i = 0; i < info.n; i++)
                info.processes[i].start_time++; /* of another one with that number */
        assert_false(lazy_record_is_alive(&info));
        lazy_record_info_clear(&info);

        /* Whoever served it has died. */
        lazy_record_clear(&record, false);
        assert_int_equal(lazy_record_read(path, &info), 0);
        assert_false(info.served);
        lazy_record_info_clear(&info);
}

static void is_gone_when_all_is_in(void **state) {
        struct lazy_record record = LAZY_RECORD_NULL;
        struct lazy_record_info info = { 0 };
        _cleanup_free_ char *path = NULL;

        (void)state;
        assert_int_equal(lazy_record_new("image", &record, NULL), 0);
        path = xstrdup(record.path);
        lazy_record_clear(&record, true);
        assert_int_equal(lazy_record_read(path, &info), -ENOENT);
        assert_int_equal(count_records(), 0);
}

static void damage_is_found(void **state) {
        static const char *const bad[] = {
                "nonsense\n",      "pages 1\n",
                "pages 1 x\n",     "process 4294967296 1\n",
                "process -1 1\n",  "process 1\n",
                "process 1 2 3\n", "image a\nprocess x y\n",
                "pages 1 2\n\n",   "process 2147483648 1\n",
        };
        _cleanup_free_ char *path = path_join(directory, "record");
        struct lazy_record_info info = { 0 };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                assert_int_equal(io_replace_file(path, bad[i], strlen(bad[i]), 0600, false), 0);
                assert_int_equal(lazy_record_read(path, &info), -EBADMSG);
        }
        /* A line that is just being written does not count yet. */
        assert_int_equal(io_replace_file(path, "image a\nprocess 12", 18, 0600, false), 0);
        assert_int_equal(lazy_record_read(path, &info), 0);
        assert_int_equal(info.n, 0);
        lazy_record_info_clear(&info);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(is_read_as_it_was_written, set_up, tear_down),
                cmocka_unit_test_setup_teardown(is_gone_when_all_is_in, set_up, tear_down),
                cmocka_unit_test_setup_teardown(damage_is_found, set_up, tear_down),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
