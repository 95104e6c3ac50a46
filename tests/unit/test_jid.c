/* SPDX-License-Identifier: Apache-2.0 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/jid.h"
#include "base/jid_words.h"
#include "base/text.h"

#define LONGEST "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl"

static void test_good(void **state) {
        (void)state;
        static const char *const good[] = { "a", "0", "Z", "a.b_c-D9", "calm-otter", "1..", LONGEST };

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                assert_int_equal(jid_check(good[i], NULL), 0);
}

static void test_bad(void **state) {
        (void)state;
        static const char *const bad[][2] = {
                { "", "is empty" },
                { LONGEST "m", "too long" },
                { ".", "does not begin" },
                { "..", "does not begin" },
                { "-a", "does not begin" },
                { "_a", "does not begin" },
                { "../etc", "does not begin" },
                { "a b", "a space" },
                { "a/b", "character '/'" },
                { "a/../b", "character '/'" },
                { "a:b", "character ':'" },
                { "a%b", "character '%'" },
                { "a\nb", "other than ASCII" },
                { "a\x7f", "other than ASCII" },
                { "\xc3\xa4", "does not begin" },
                { "a\xc3\xa4", "other than ASCII" },
                { "a\xff", "other than ASCII" },
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_error_ struct st_error *err = NULL;

                assert_int_equal(jid_check(bad[i][0], &err), -EINVAL);
                if (!strstr(st_error_message(err), bad[i][1]))
                        fail_msg("%s: %s", bad[i][0], st_error_message(err));
        }
        assert_int_equal(jid_check(NULL, NULL), -EINVAL);
}

static bool is_taken(const char *jid, void *userdata) {
        int *left = userdata;

        assert_int_equal(jid_check(jid, NULL), 0);
        return (*left)-- > 0;
}

/* The dashes of it, and whether a number follows the second. */
static int parts(const char *jid) {
        int n = 1;

        for (const char *p = jid; *p; p++)
                n += *p == '-';
        return n;
}

static void test_invent(void **state) {
        (void)state;
        _cleanup_strv_ struct strv all = { 0 };
        int twice = 0;

        for (int i = 0; i < 200; i++) {
                int none = 0;
                char *jid = jid_invent(is_taken, &none);

                assert_int_equal(parts(jid), 2);
                twice += strv_has(&all, jid);
                strv_take(&all, jid);
        }
        if (twice > 20) /* one is to be expected, of 22,000 names */
                fail_msg("%d of 200 names came twice", twice);
        for (int tries = 1; tries < 200; tries++) {
                int left = tries;
                _cleanup_free_ char *jid = jid_invent(is_taken, &left);

                assert_int_equal(left, -1);
                assert_int_equal(parts(jid), tries < 10 ? 2 : 3);
        }
}

static void test_words(void **state) {
        (void)state;
        _cleanup_strv_ struct strv seen = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(jid_first) + ELEMENTSOF(jid_second); i++) {
                const char *word = i < ELEMENTSOF(jid_first) ? jid_first[i] : jid_second[i - ELEMENTSOF(jid_first)];

                if (strv_has(&seen, word))
                        fail_msg("%s is there twice", word);
                strv_add(&seen, word);
                assert_true(strlen(word) >= 3 && strlen(word) <= 9);
                for (const char *p = word; *p; p++)
                        assert_true(*p >= 'a' && *p <= 'z');
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_good),
                cmocka_unit_test(test_bad),
                cmocka_unit_test(test_invent),
                cmocka_unit_test(test_words),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
