/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/text.h"

static int saved_stderr, captured;

/* stderr goes to a memory file until end_capture(). */
static void begin_capture(void) {
        captured = io_memfd("stderr", "", 0);
        saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        assert_true(captured >= 0 && saved_stderr >= 0);
        assert_int_equal(io_set_nonblocking(captured, false), 0);
        int r = fcntl(captured, F_SETFL, O_APPEND);
        assert_int_equal(r, 0);
        dup2(captured, STDERR_FILENO);
}

/* malloc'ed */
static char *end_capture(void) {
        struct stat st;

        dup2(saved_stderr, STDERR_FILENO);
        close(saved_stderr);
        assert_int_equal(fstat(captured, &st), 0);
        char *text = xcalloc((size_t)st.st_size + 1, 1);
        assert_int_equal(pread(captured, text, (size_t)st.st_size, 0), st.st_size);
        close(captured);
        return text;
}

static int reset(void **state) {
        (void)state;
        logger_set_target(LOGGER_STDERR, NULL, NULL);
        logger_set_level(ST_LOG_INFO);
        logger_set_colour(false);
        return 0;
}

static void lines_on_stderr(void **state) {
        (void)state;
        begin_capture();
        st_log_error("cannot %s", "x");
        st_log_warning("w");
        st_log_info("two\nlines \033[0m");
        st_log_debug("dropped");
        logger_set_level(ST_LOG_DEBUG);
        st_log_debug("d");
        logger_set_level(ST_LOG_ERROR);
        st_log_warning("dropped");
        _cleanup_free_ char *text = end_capture();
        assert_string_equal(text,
                            "stasis: error: cannot x\nstasis: warning: w\nstasis: two lines ?[0m\nstasis: debug: d\n");
}

static void colours(void **state) {
        (void)state;
        begin_capture();
        logger_set_colour(true);
        st_log_error("e");
        st_log_info("i");
        _cleanup_free_ char *text = end_capture();
        assert_string_equal(text, "stasis: \033[1;31merror:\033[0m e\nstasis: i\n");
        assert_true(logger_colour());
}

static void errno_survives(void **state) {
        (void)state;
        begin_capture();
        errno = ENOSPC;
        st_log_info("%m");
        int after = errno;
        _cleanup_free_ char *text = end_capture();
        assert_int_equal(after, ENOSPC);
        assert_string_equal(text, "stasis: No space left on device\n");
}

static void json_lines(void **state) {
        (void)state;
        json_error_t error;

        begin_capture();
        logger_set_target(LOGGER_JSON, NULL, NULL);
        st_log_warning("a \"quoted\" \\ text\n\xff");
        _cleanup_free_ char *text = end_capture();
        assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
        json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, &error);
        assert_non_null(line);
        assert_string_equal(json_string_value(json_object_get(line, "level")), "warning");
        assert_string_equal(json_string_value(json_object_get(line, "message")), "a \"quoted\" \\ text \xef\xbf\xbd");
        assert_int_equal(json_integer_value(json_object_get(line, "pid")), getpid());
        const char *time = json_string_value(json_object_get(line, "time"));
        int year, month, day, hour, minute, second, ms, end = 0;
        assert_int_equal(
                sscanf(time, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour, &minute, &second, &ms, &end),
                7);
        assert_int_equal(end, 24);
        assert_int_equal(strlen(time), 24);
        json_decref(line);
}

static void keep(enum st_log_level level, const char *message, void *userdata) {
        strv_addf(userdata, "%d %s", (int)level, message);
}

static void calls(void **state) {
        (void)state;
        _cleanup_strv_ struct strv lines = { 0 };

        logger_set_target(LOGGER_CALL, keep, &lines);
        st_log_error("e\n");
        st_log_debug("dropped");
        st_log((enum st_log_level)5, "notice");
        assert_int_equal(lines.n, 2);
        assert_string_equal(lines.items[0], "3 e ");
        assert_string_equal(lines.items[1], "6 notice");
}

static void journal_falls_back_to_stderr(void **state) {
        (void)state;
        if (access("/run/systemd/journal/socket", F_OK) == 0)
                skip();
        begin_capture();
        logger_set_target(LOGGER_JOURNAL, NULL, NULL);
        st_log_info("x");
        _cleanup_free_ char *text = end_capture();
        assert_string_equal(text, "stasis: x\n");
}

static void journal_stream_is_recognised(void **state) {
        (void)state;
        struct stat st;

        unsetenv("JOURNAL_STREAM");
        assert_int_equal(logger_default_target(), LOGGER_STDERR);
        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        _cleanup_free_ char *own = xasprintf("%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
        setenv("JOURNAL_STREAM", own, 1);
        assert_int_equal(logger_default_target(), LOGGER_JOURNAL);
        setenv("JOURNAL_STREAM", "1:1", 1); /* stderr was redirected */
        assert_int_equal(logger_default_target(), LOGGER_STDERR);
        setenv("JOURNAL_STREAM", "x", 1);
        assert_int_equal(logger_default_target(), LOGGER_STDERR);
        unsetenv("JOURNAL_STREAM");
}

static void level_names(void **state) {
        (void)state;
        enum st_log_level level;

        assert_int_equal(logger_level_from_text("debug", &level), 0);
        assert_int_equal(level, ST_LOG_DEBUG);
        assert_int_equal(logger_level_from_text("warn", &level), 0);
        assert_int_equal(level, ST_LOG_WARNING);
        assert_int_equal(logger_level_from_text("", &level), -EINVAL);
        assert_int_equal(logger_level_from_text("loud", &level), -EINVAL);
}

#define THREADS 4
#define LINES 200

static void *log_many(void *argument) {
        for (int i = 0; i < LINES; i++)
                st_log_info("%s of a thread that logs", (const char *)argument);
        return NULL;
}

static void threads_do_not_mix_lines(void **state) {
        (void)state;
        pthread_t threads[THREADS];
        size_t n = 0;

        begin_capture();
        for (size_t i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, log_many, (void *)"line"), 0);
        for (size_t i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        _cleanup_free_ char *text = end_capture();
        _cleanup_strv_ struct strv lines = { 0 };
        strv_split(&lines, text, '\n');
        for (; n < lines.n; n++)
                assert_string_equal(lines.items[n], "stasis: line of a thread that logs");
        assert_int_equal(n, THREADS * LINES);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(lines_on_stderr, reset),
                cmocka_unit_test_setup(colours, reset),
                cmocka_unit_test_setup(errno_survives, reset),
                cmocka_unit_test_setup(json_lines, reset),
                cmocka_unit_test_setup(calls, reset),
                cmocka_unit_test_setup(journal_falls_back_to_stderr, reset),
                cmocka_unit_test_setup(journal_stream_is_recognised, reset),
                cmocka_unit_test_setup(level_names, reset),
                cmocka_unit_test_setup(threads_do_not_mix_lines, reset),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
