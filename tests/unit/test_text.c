/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/text.h"

static void numbers(void **state) {
        (void)state;
        int64_t i = 7;
        uint64_t u = 7;

        assert_int_equal(text_to_int("-9223372036854775808", INT64_MIN, INT64_MAX, &i), 0);
        assert_true(i == INT64_MIN);
        assert_int_equal(text_to_int("9223372036854775807", INT64_MIN, INT64_MAX, &i), 0);
        assert_true(i == INT64_MAX);
        assert_int_equal(text_to_int("9223372036854775808", INT64_MIN, INT64_MAX, &i), -ERANGE);
        assert_int_equal(text_to_int("-9223372036854775809", INT64_MIN, INT64_MAX, &i), -ERANGE);
        assert_int_equal(text_to_int("11", 0, 10, &i), -ERANGE);
        assert_int_equal(text_to_int("-1", 0, 10, &i), -ERANGE);

        static const char *const bad[] = { "", "-", "+1", " 1", "1 ", "0x10", "1e3", "--1", "1-", "ä" };
        for (size_t n = 0; n < ELEMENTSOF(bad); n++) {
                assert_int_equal(text_to_int(bad[n], INT64_MIN, INT64_MAX, &i), -EINVAL);
                assert_int_equal(text_to_uint(bad[n], UINT64_MAX, &u), -EINVAL);
        }
        assert_int_equal(text_to_uint("18446744073709551615", UINT64_MAX, &u), 0);
        assert_true(u == UINT64_MAX);
        assert_int_equal(text_to_uint("18446744073709551616", UINT64_MAX, &u), -ERANGE);
        assert_int_equal(text_to_uint("99999999999999999999x", UINT64_MAX, &u), -EINVAL);
        assert_int_equal(text_to_uint("-1", UINT64_MAX, &u), -EINVAL);
        assert_true(u == UINT64_MAX); /* a failure changes nothing */
}

static void pids(void **state) {
        (void)state;
        pid_t pid;

        assert_int_equal(text_to_pid("1", &pid), 0);
        assert_int_equal(text_to_pid("4194304", &pid), 0);
        assert_int_equal(pid, 4194304);
        assert_int_equal(text_to_pid("4194305", &pid), -ERANGE);
        assert_int_equal(text_to_pid("0", &pid), -ERANGE);
        assert_int_equal(text_to_pid("-5", &pid), -ERANGE);
        assert_int_equal(text_to_pid("self", &pid), -EINVAL);
}

static void durations(void **state) {
        static const struct {
                const char *text;
                uint64_t ms;
        } good[] = { { "0", 0 },       { "10s", 10000 },     { "5m", 300000 },    { "1h", 3600000 },
                     { "500ms", 500 }, { "1h30m", 5400000 }, { "2d", 172800000 }, { "1m1ms", 60001 },
                     { "0s", 0 },      { "90m", 5400000 } };
        static const char *const bad[] = { "", "10", "s", "1x", "1 s", "-1s", "1s1m", "1s1s", "1.5h", "1h30", "10sm" };
        uint64_t ms = 7;

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                assert_int_equal(text_to_duration(good[i].text, &ms), 0);
                assert_true(ms == good[i].ms);
        }
        ms = 7;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(text_to_duration(bad[i], &ms), -EINVAL);
        assert_int_equal(text_to_duration("99999999999999999999s", &ms), -ERANGE);
        assert_int_equal(text_to_duration("18446744073709551615d", &ms), -ERANGE);
        assert_int_equal(text_to_duration("18446744073709551615ms1x", &ms), -EINVAL);
        assert_true(ms == 7); /* a failure changes nothing */
}

static void sizes(void **state) {
        (void)state;
        uint64_t size;

        assert_int_equal(text_to_size("0", &size), 0);
        assert_int_equal(size, 0);
        assert_int_equal(text_to_size("3K", &size), 0);
        assert_int_equal(size, 3072);
        assert_int_equal(text_to_size("2g", &size), 0);
        assert_true(size == UINT64_C(2147483648));
        assert_int_equal(text_to_size("1T", &size), 0);
        assert_true(size == UINT64_C(1) << 40);
        assert_int_equal(text_to_size("16777216T", &size), -ERANGE);
        assert_int_equal(text_to_size("99999999999999999999K", &size), -ERANGE);
        static const char *const bad[] = { "", "K", "1KB", "1 K", "1P", "-1K", "1.5G" };
        for (size_t n = 0; n < ELEMENTSOF(bad); n++)
                assert_int_equal(text_to_size(bad[n], &size), -EINVAL);
}

static void size_texts(void **state) {
        (void)state;
        static const struct {
                uint64_t bytes;
                const char *text;
        } cases[] = {
                { 0, "0 B" },
                { 1023, "1023 B" },
                { 1024, "1.0 KiB" },
                { 1610612736, "1.5 GiB" },
                { 1048575, "1.0 MiB" }, /* not 1024.0 KiB */
                { UINT64_MAX, "16.0 EiB" },
        };
        for (size_t n = 0; n < ELEMENTSOF(cases); n++) {
                _cleanup_free_ char *text = text_from_size(cases[n].bytes);
                assert_string_equal(text, cases[n].text);
        }
}

static void truth(void **state) {
        (void)state;
        bool b = false;

        assert_int_equal(text_to_bool("Yes", &b), 0);
        assert_true(b);
        assert_int_equal(text_to_bool("0", &b), 0);
        assert_false(b);
        assert_int_equal(text_to_bool("on", &b), 0);
        assert_true(b);
        assert_int_equal(text_to_bool("", &b), -EINVAL);
        assert_int_equal(text_to_bool("2", &b), -EINVAL);
}

static void affixes(void **state) {
        (void)state;
        assert_string_equal(text_after("--dir", "--"), "dir");
        assert_string_equal(text_after("--", "--"), "");
        assert_null(text_after("-", "--"));
        assert_true(text_ends_with("a.tar.gz", ".gz"));
        assert_false(text_ends_with("gz", ".gz"));
}

static void foreign_bytes_become_safe(void **state) {
        (void)state;
        static const char override[] = { '\xe2', '\x80', '\xae', 'e', 'x', 'e' };
        static const struct {
                const char *in;
                size_t length;
                const char *out;
        } cases[] = {
                { "plain äöü €\U0001F600", 20, "plain äöü €\U0001F600" },
                { "a\nb\r\tc", 6, "a b  c" },
                { "\033[2J\x7f", 5, "?[2J?" },
                { "a\0b", 3, "a?b" },
                { "\xc2\x9b"
                  "1m",
                  4, "?1m" },                                                  /* CSI among the C1 controls */
                { override, 6, "?exe" },                                       /* right-to-left override */
                { "\xc0\xaf", 2, "\xef\xbf\xbd\xef\xbf\xbd" },                 /* overlong / */
                { "\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" }, /* a surrogate */
                { "\xf4\x90\x80\x80", 4, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
                { "\xe2\x82", 2, "\xef\xbf\xbd\xef\xbf\xbd" }, /* cut off */
                { "", 0, "" },
        };
        for (size_t n = 0; n < ELEMENTSOF(cases); n++) {
                _cleanup_free_ char *out = text_sanitise(cases[n].in, cases[n].length);
                assert_string_equal(out, cases[n].out);
        }
}

static void lists(void **state) {
        (void)state;
        _cleanup_strv_ struct strv list = { 0 };
        _cleanup_free_ char *nothing = strv_join(&list, ",");

        assert_string_equal(nothing, "");
        for (int i = 0; i < 20; i++) {
                strv_addf(&list, "%d", i);
                assert_null(list.items[list.n]);
        }
        assert_true(strv_has(&list, "19"));
        assert_false(strv_has(&list, "20"));
        strv_clear(&list);
        assert_null(list.items);

        strv_split(&list, ",a,,bc,", ',');
        assert_int_equal(list.n, 2);
        _cleanup_free_ char *joined = strv_join(&list, ", ");
        assert_string_equal(joined, "a, bc");
}

static void nearest_word(void **state) {
        (void)state;
        struct nearest nearest = { .wanted = "strems" };

        nearest_offer(&nearest, "name");
        assert_null(nearest.best);
        nearest_offer(&nearest, "stream");
        nearest_offer(&nearest, "streams");
        nearest_offer(&nearest, "dir");
        assert_string_equal(nearest.best, "streams");
        assert_int_equal(text_distance("kitten", "sitting"), 3);
        assert_int_equal(text_distance("", "abc"), 3);
        assert_int_equal(text_distance("ABC", "abc"), 0);

        nearest = (struct nearest){ .wanted = "x" };
        nearest_offer(&nearest, "y"); /* nothing in common */
        assert_null(nearest.best);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(numbers),
                cmocka_unit_test(pids),
                cmocka_unit_test(sizes),
                cmocka_unit_test(durations),
                cmocka_unit_test(size_texts),
                cmocka_unit_test(truth),
                cmocka_unit_test(affixes),
                cmocka_unit_test(lists),
                cmocka_unit_test(foreign_bytes_become_safe),
                cmocka_unit_test(nearest_word),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
