/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stasis/error.h>

static void frames_go_from_symptom_to_cause(void **state) {
        (void)state;
        _cleanup_error_ struct st_error *err = NULL;

        assert_int_equal(st_error_set(&err, ENOENT, "nftables is not available"), -ENOENT);
        assert_int_equal(st_error_wrap(&err, "CRIU could not lock the network"), -ENOENT);
        assert_int_equal(st_error_wrap(&err, "cannot dump process %d", 42), -ENOENT);
        assert_int_equal(st_error_number(err), -ENOENT);
        assert_string_equal(st_error_message(err),
                            "cannot dump process 42: CRIU could not lock the network: nftables is not available");
        st_error_hint(&err, "install nftables");
        st_error_hint(&err, "a later hint is dropped");
        assert_string_equal(st_error_message(err),
                            "cannot dump process 42: CRIU could not lock the network: nftables is "
                            "not available (hint: install nftables)");
}

static void errno_text_is_appended(void **state) {
        (void)state;
        _cleanup_error_ struct st_error *err = NULL;

        assert_int_equal(st_error_errno(&err, -EACCES, "cannot open %s", "/x"), -EACCES);
        assert_string_equal(st_error_message(err), "cannot open /x: Permission denied");
}

static void failure_is_never_success(void **state) {
        (void)state;
        _cleanup_error_ struct st_error *err = NULL;

        assert_int_equal(st_error_set(&err, 0, "x"), -EIO);
        assert_int_equal(st_error_number(err), -EIO);
        assert_int_equal(st_error_set(NULL, INT_MIN, "x"), -EIO);
        assert_int_equal(st_error_wrap(NULL, "x"), -EIO);
}

static void null_is_accepted_everywhere(void **state) {
        (void)state;
        struct st_error *none = NULL;

        assert_int_equal(st_error_set(NULL, EBUSY, "x"), -EBUSY);
        assert_int_equal(st_error_errno(NULL, EBUSY, "x"), -EBUSY);
        assert_int_equal(st_error_wrap(&none, "x"), -EIO);
        st_error_hint(NULL, "x");
        st_error_hint(&none, "x");
        assert_null(none);
        assert_int_equal(st_error_number(NULL), 0);
        assert_string_equal(st_error_message(NULL), "");
        assert_null(st_error_free(NULL));
        assert_int_equal(st_error_move(NULL, NULL), -EIO);
}

static void setting_over_an_error_keeps_it_underneath(void **state) {
        (void)state;
        _cleanup_error_ struct st_error *err = NULL;

        st_error_set(&err, ENOENT, "inner");
        st_error_hint(&err, "near the cause");
        assert_int_equal(st_error_set(&err, EBUSY, "outer"), -EBUSY);
        assert_int_equal(st_error_number(err), -EBUSY);
        assert_string_equal(st_error_message(err), "outer: inner (hint: near the cause)");
}

static void message_is_one_safe_line(void **state) {
        (void)state;
        _cleanup_error_ struct st_error *err = NULL;

        st_error_set(&err, EIO, "first\nsecond \033[31m \xff end");
        st_error_hint(&err, "a\tb");
        assert_string_equal(st_error_message(err), "first second ?[31m \xef\xbf\xbd end (hint: a b)");
}

static void full_disk_has_a_hint(void **state) {
        (void)state;
        _cleanup_error_ struct st_error *outer = NULL;
        struct st_error *err = NULL;

        st_error_errno(&err, -ENOSPC, "cannot write x");
        st_error_wrap(&err, "cannot dump");
        st_error_set(&outer, EIO, "below");
        st_error_move(&outer, err);
        assert_string_equal(st_error_message(outer),
                            "cannot dump: cannot write x: No space left on device: below (hint: make room there)");
        st_error_hint(&outer, "another one");
        assert_non_null(strstr(st_error_message(outer), "(hint: another one)"));
}

static void move_hands_over_or_frees(void **state) {
        (void)state;
        _cleanup_error_ struct st_error *to = NULL;
        struct st_error *from = NULL;

        st_error_set(&from, ENOSPC, "full");
        assert_int_equal(st_error_move(NULL, from), -ENOSPC); /* freed: the leak checker would tell */

        from = NULL;
        st_error_set(&from, ENOSPC, "full");
        assert_int_equal(st_error_move(&to, from), -ENOSPC);
        assert_ptr_equal(to, from);

        from = NULL;
        st_error_set(&from, EPERM, "cause");
        st_error_wrap(&from, "symptom");
        st_error_hint(&from, "try");
        assert_int_equal(st_error_move(&to, from), -EPERM);
        assert_string_equal(st_error_message(to), "symptom: cause: full (hint: try)");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(frames_go_from_symptom_to_cause),
                cmocka_unit_test(errno_text_is_appended),
                cmocka_unit_test(full_disk_has_a_hint),
                cmocka_unit_test(failure_is_never_success),
                cmocka_unit_test(null_is_accepted_everywhere),
                cmocka_unit_test(setting_over_an_error_keeps_it_underneath),
                cmocka_unit_test(message_is_one_safe_line),
                cmocka_unit_test(move_hands_over_or_frees),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
