/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/table.h"

#define CELLS(...) ((const char *const[]){ __VA_ARGS__ })

/* What table_print() writes on stdout; malloc'ed. */
static char *print(struct table *table, bool json) {
        int memfd = io_memfd("stdout", "", 0);
        struct stat st;

        fflush(stdout);
        int saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        dup2(memfd, STDOUT_FILENO);
        int r = table_print(table, json, NULL);
        dup2(saved, STDOUT_FILENO);
        close(saved);
        assert_int_equal(r, 0);
        assert_int_equal(fstat(memfd, &st), 0);
        char *text = xcalloc((size_t)st.st_size + 1, 1);
        assert_int_equal(pread(memfd, text, (size_t)st.st_size, 0), st.st_size);
        close(memfd);
        return text;
}

static void text_and_json_of_the_same_cells(void **state) {
        (void)state;
        _cleanup_(table_freep) struct table *table = table_new(CELLS("JOB", "PID", "LAST SEEN", NULL));

        table_add(table, CELLS("a-long-name", "42", "never\n"));
        table_add(table, CELLS("b", NULL, "007"));
        _cleanup_free_ char *text = print(table, false), *json = print(table, true);
        assert_string_equal(text, "JOB          PID  LAST SEEN\n"
                                  "a-long-name  42   never \n"
                                  "b                 007\n");
        json_t *array = json_loads(json, 0, NULL);
        _cleanup_free_ char *compact = json_dumps(array, JSON_COMPACT);
        json_decref(array);
        assert_string_equal(compact, "[{\"job\":\"a-long-name\",\"pid\":42,\"last_seen\":\"never \"},"
                                     "{\"job\":\"b\",\"pid\":null,\"last_seen\":\"007\"}]");
}

/** Tables of ASCII only are printed by us, all others by libsmartcols. */
static void both_ways_of_printing_agree(void **state) {
        static const char *const rows[][3] = {
                { "a", "bcd", "e" },        { "", "b", "" },    { NULL, NULL, NULL },
                { "abcdefgh", "", "x y " }, { "q", NULL, "z" },
        };
        (void)state;
        _cleanup_(table_freep) struct table *plain = table_new(CELLS("JOB", "PID", "LAST", NULL));
        _cleanup_(table_freep) struct table *wide = table_new(CELLS("JOB", "PID", "LAST", NULL));

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                table_add(plain, rows[i]);
                table_add(wide, rows[i]);
        }
        table_add(wide, CELLS("\303\244", "-", "-"));
        _cleanup_free_ char *a = print(plain, false), *b = print(wide, false);
        assert_true(strlen(b) > strlen(a));
        assert_memory_equal(a, b, strlen(a));
}

static void an_empty_table_has_a_header(void **state) {
        (void)state;
        _cleanup_(table_freep) struct table *table = table_new(CELLS("JOB", "PID", NULL));
        _cleanup_free_ char *text = print(table, false), *json = print(table, true);

        assert_string_equal(text, "JOB  PID\n");
        assert_string_equal(json, "[]\n");
}

static void nothing_is_cut(void **state) {
        (void)state;
        _cleanup_(table_freep) struct table *table = table_new(CELLS("A", "B", NULL));
        char wide[1001];

        memset(wide, 'x', 1000);
        wide[1000] = 0;
        table_add(table, CELLS(wide, wide));
        _cleanup_free_ char *text = print(table, false);
        const char *line = strchr(text, '\n') + 1;
        assert_int_equal(strlen(line), 1000 + 2 + 1000 + 1);
}

static void trees(void **state) {
        (void)state;
        _cleanup_(table_freep) struct table *table = table_new(CELLS("NAME", "PID", NULL));

        size_t root = table_add_below(table, SIZE_MAX, CELLS("init", "1"));
        size_t child = table_add_below(table, root, CELLS("sh", "2"));
        table_add_below(table, child, CELLS("sleep", "3"));
        table_add_below(table, root, CELLS("cat", "4"));
        table_add_below(table, 99, CELLS("other", "5")); /* no such parent */
        _cleanup_free_ char *text = print(table, false), *json = print(table, true);

        assert_string_equal(text, "NAME       PID\n"
                                  "init       1\n"
                                  "├─sh       2\n"
                                  "│ └─sleep  3\n"
                                  "└─cat      4\n"
                                  "other      5\n");
        json_t *array = json_loads(json, 0, NULL);
        _cleanup_free_ char *compact = json_dumps(array, JSON_COMPACT);
        json_decref(array);
        assert_string_equal(compact,
                            "[{\"name\":\"init\",\"pid\":1,\"children\":[{\"name\":\"sh\",\"pid\":2,\"children\":["
                            "{\"name\":\"sleep\",\"pid\":3}]},{\"name\":\"cat\",\"pid\":4}]},"
                            "{\"name\":\"other\",\"pid\":5}]");
}

static void numbers_in_json(void **state) {
        (void)state;
        static const char *const cells[][2] = {
                { "0", "0" },         { "-0", "\"-0\"" },
                { "-12", "-12" },     { "+1", "\"+1\"" },
                { "1.5", "\"1.5\"" }, { "0x1", "\"0x1\"" },
                { "", "\"\"" },       { "9223372036854775808", "\"9223372036854775808\"" },
        };
        for (size_t i = 0; i < ELEMENTSOF(cells); i++) {
                _cleanup_(table_freep) struct table *table = table_new(CELLS("X", NULL));
                _cleanup_free_ char *expected = xasprintf("[\n  {\n    \"x\": %s\n  }\n]\n", cells[i][1]);

                table_add(table, CELLS(cells[i][0]));
                _cleanup_free_ char *json = print(table, true);
                assert_string_equal(json, expected);
        }
}

static void a_full_disk_is_an_error(void **state) {
        (void)state;
        _cleanup_(table_freep) struct table *table = table_new(CELLS("X", NULL));
        _cleanup_error_ struct st_error *err = NULL;
        int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

        fflush(stdout);
        int saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        dup2(full, STDOUT_FILENO);
        int r = table_print(table, true, &err);
        dup2(saved, STDOUT_FILENO);
        clearerr(stdout);
        close(saved);
        close(full);
        assert_int_equal(r, -ENOSPC);
        assert_string_equal(st_error_message(err),
                            "cannot write the table: No space left on device (hint: make room there)");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(text_and_json_of_the_same_cells),
                cmocka_unit_test(both_ways_of_printing_agree),
                cmocka_unit_test(an_empty_table_has_a_header),
                cmocka_unit_test(nothing_is_cut),
                cmocka_unit_test(trees),
                cmocka_unit_test(numbers_in_json),
                cmocka_unit_test(a_full_disk_is_an_error),
        };
        setlocale(LC_ALL, "C.UTF-8");
        return cmocka_run_group_tests(tests, NULL, NULL);
}
