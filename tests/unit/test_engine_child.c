/* SPDX-License-Identifier: Apache-2.0 */

/* Programs that plugins start: output, its bound, time limit, cancelling, descriptors. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <stasis/child.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#define SHELL(script) ((char *const[]){ (char *)"sh", (char *)"-c", (char *)(script), NULL })

static struct st_child shell(char *const *argv) {
        return (struct st_child){ .size = sizeof(struct st_child), .path = "sh", .argv = argv };
}

static void test_output(void **state) {
        _cleanup_free_ char *output = NULL, *much = NULL;
        struct st_child child = shell(SHELL("echo out; echo err >&2; pwd; exit 3"));

        (void)state;
        child.directory = "/";
        assert_int_equal(st_child_run(&child, 10000, -EBADF, &output, NULL), 3);
        assert_string_equal(output, "out\nerr\n/\n");
        child = shell(SHELL("head -c 3000000 /dev/zero | tr '\\0' x; kill -TERM $$"));
        assert_int_equal(st_child_run(&child, 20000, -EBADF, &much, NULL), 128 + SIGTERM);
        assert_int_equal(strlen(much), 1 << 20);
}

static void test_limits(void **state) {
        struct st_child child = shell(SHELL("sleep 1000 & sleep 1000"));
        int cancel[2];

        (void)state;
        assert_int_equal(pipe2(cancel, O_CLOEXEC), 0);
        for (int i = 0; i < 2; i++) {
                _cleanup_error_ struct st_error *error = NULL;
                _cleanup_free_ char *output = NULL;
                uint64_t begin = clock_ms();

                if (i == 1)
                        close(cancel[1]); /* polls as hung up */
                int r = st_child_run(&child, i == 0 ? 50 : -1, cancel[0], &output, &error);
                assert_int_equal(r, i == 0 ? -ETIMEDOUT : -ECANCELED);
                assert_int_equal(st_error_number(error), r);
                assert_null(output);
                assert_true(clock_ms() - begin < 20000);
        }
        close(cancel[0]);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left to be reaped */
}

static void test_start(void **state) {
        struct st_child child = shell(SHELL("cat >&3; exit 5"));
        int in[2], out[2], pidfd = -EBADF, status = 0;
        char text[8] = "";

        (void)state;
        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        const struct st_child_fd fds[] = { { in[0], 0 }, { out[1], 3 } };
        child.fds = fds;
        child.n_fds = 2;
        pid_t pid = st_child_start(&child, &pidfd, NULL);
        assert_true(pid > 0 && pidfd >= 0);
        close(in[0]);
        close(out[1]);
        assert_int_equal(write(in[1], "hello", 5), 5);
        close(in[1]);
        assert_int_equal(read(out[0], text, sizeof(text)), 5);
        assert_string_equal(text, "hello");
        (void)st_child_wait(pid, &status);
        assert_int_equal(WEXITSTATUS(status), 5);
        close(out[0]);
        close(pidfd);
}

static void test_refused(void **state) {
        struct st_child child = { .size = sizeof(child), .path = "/no/such/program", .argv = SHELL("") };
        _cleanup_error_ struct st_error *error = NULL;

        (void)state;
        assert_int_equal(st_child_run(&child, 1000, -EBADF, NULL, &error), -ENOENT);
        assert_int_equal(st_child_start(&child, NULL, NULL), -ENOENT);
        child = shell(SHELL("exit 0"));
        child.size = 0;
        assert_int_equal(st_child_run(&child, 1000, -EBADF, NULL, NULL), -EINVAL);
        assert_int_equal(st_child_start(&child, NULL, NULL), -EINVAL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_output),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_start),
                cmocka_unit_test(test_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
