/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "criu/log.h"

#define LARGE ((size_t)17 << 20)

static char *root;

static int setup(void **state) {
        char template[] = "/tmp/stasis-test-XXXXXX";

        (void)state;
        root = xstrdup(mkdtemp(template));
        return root ? setenv("STASIS_LOG_DIR", root, 1) : -1;
}

static int teardown(void **state) {
        (void)state;
        io_remove_tree(root);
        free(root);
        return 0;
}

/* Numbered lines of 16 bytes, with a NUL in the first. */
static char *numbered(size_t size) {
        char *text = malloc(size + 1);

        assert_non_null(text);
        for (size_t i = 0; i < size / 16; i++)
                snprintf(text + i * 16, 17, "line %010zu\n", i);
        text[4] = '\0';
        return text;
}

static void check(const char *read, size_t read_size, const char *text, size_t size) {
        const char *mark = strstr(read, CRIU_LOG_LEFT_OUT);

        assert_int_equal(strlen(read), read_size);
        assert_int_equal(read[4], ' ');
        if (!mark) {
                assert_int_equal(read_size, size);
                assert_memory_equal(read + 5, text + 5, size - 5);
                return;
        }
        size_t head = (size_t)4 << 20, tail = (size_t)12 << 20;
        _cleanup_free_ char *expected = xasprintf("\n[%zu %s\n", size - head - tail, CRIU_LOG_LEFT_OUT);

        assert_int_equal(read_size, head + strlen(expected) + tail);
        assert_memory_equal(read + 5, text + 5, head - 5);
        assert_memory_equal(read + head, expected, strlen(expected));
        assert_memory_equal(read + head + strlen(expected), text + size - tail, tail);
}

static void read_from_file(size_t size) {
        _cleanup_free_ char *text = numbered(size), *path = path_join(root, "file"), *read = NULL;
        _cleanup_close_ int fd = -EBADF;
        size_t read_size;

        assert_int_equal(io_replace_file(path, text, size, 0600, false), 0);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(criu_log_read(fd, &read, &read_size), 0);
        check(read, read_size, text, size);
}

static void read_from_pipe(size_t size) {
        _cleanup_free_ char *text = numbered(size), *read = NULL;
        _cleanup_close_ int in = -EBADF;
        size_t read_size;
        int fds[2], status;
        pid_t child;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        in = fds[0];
        child = fork();
        assert_true(child >= 0);
        if (child == 0)
                _exit(io_write_full(fds[1], text, size) < 0);
        close(fds[1]);
        assert_int_equal(criu_log_read(in, &read, &read_size), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        check(read, read_size, text, size);
}

static void reads_all_of_it(void **state) {
        (void)state;
        read_from_file(160);
        read_from_file((size_t)4 << 20);
        read_from_pipe(160);
        read_from_pipe((size_t)6 << 20);
}

static void reads_both_ends(void **state) {
        (void)state;
        read_from_file(LARGE);
        read_from_pipe(LARGE);
}

static void what_cannot_be_read(void **state) {
        _cleanup_close_ int directory = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char *read = NULL;
        size_t size;

        (void)state;
        assert_int_equal(criu_log_read(directory, &read, &size), -EISDIR);
        assert_int_equal(criu_log_read(-1, &read, &size), -EBADF);
        assert_null(read);
}

static bool there(const char *name) {
        _cleanup_free_ char *path = path_join(root, name);

        return access(path, F_OK) == 0;
}

static void put(const char *name, time_t time) {
        _cleanup_free_ char *path = path_join(root, name);
        const struct timespec times[] = { { .tv_sec = time }, { .tv_sec = time } };

        assert_int_equal(io_replace_file(path, "x", 1, 0600, false), 0);
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void oldest_go(void **state) {
        _cleanup_free_ char *first = NULL, *second = NULL, *last = NULL, *victim = path_join(root, "victim");
        _cleanup_free_ char *link = path_join(root, "dump-0-link.log");

        (void)state;
        put("dump-1-a.log", 100);
        put("restore-2-b.log", 50);
        put("dump-3-c.log", 200);
        /* Not ours: never removed, and not counted. */
        put("dump-notes.log", 1);
        put("dump-1-a.txt", 1);
        put("other.log", 1);
        put("victim", 1);
        assert_int_equal(symlink(victim, link), 0);

        first = criu_log_keep("new", 3, "dump-4-d", 3);
        assert_true(first && text_ends_with(first, "/dump-4-d.log"));
        assert_false(there("restore-2-b.log"));
        assert_true(there("dump-1-a.log") && there("dump-3-c.log"));

        /* Of the same name, and old by its clock: what was written now is kept all the same. */
        second = criu_log_keep("new", 3, "dump-4-d", 1);
        assert_true(second && text_ends_with(second, "/dump-4-d-2.log"));
        assert_true(there("dump-4-d-2.log"));
        assert_false(there("dump-4-d.log") || there("dump-1-a.log") || there("dump-3-c.log"));
        assert_true(there("dump-notes.log") && there("dump-1-a.txt") && there("other.log") && there("victim") &&
                    there("dump-0-link.log"));

        last = criu_log_keep("new", 3, "dump-5-e", 0);
        assert_null(last);
        assert_null(criu_log_keep("new", 3, "../dump-5-e", 10));
        assert_false(there("dump-5-e.log"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(reads_all_of_it, setup, teardown),
                cmocka_unit_test_setup_teardown(reads_both_ends, setup, teardown),
                cmocka_unit_test_setup_teardown(what_cannot_be_read, setup, teardown),
                cmocka_unit_test_setup_teardown(oldest_go, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
