/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/file_companions.h"

static char directory[] = "/tmp/companions.XXXXXX";
static int dir_fd = -EBADF;

static int setup(void **state) {
        (void)state;
        if (!mkdtemp(directory))
                return -1;
        dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return dir_fd < 0;
}

static int teardown(void **state) {
        (void)state;
        close(dir_fd);
        return io_remove_tree(directory);
}

static void put(const char *name) {
        int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        close(fd);
}

static bool is_there(const char *name) {
        return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_names(void **state) {
        char text[64];

        (void)state;
        file_companion_suffix("tail", false, 0, text, sizeof(text));
        assert_string_equal(text, "stasis-tail-19700101T000000Z");
        file_companion_suffix("kept", true, 86399, text, sizeof(text));
        assert_string_equal(text, "stasis-kept-restart-19700101T235959Z");
}

static void test_older(void **state) {
        static const char newest[] = "log.stasis-tail-restart-20260102T000000Z-2";
        static const char *const older[] = {
                "log.stasis-tail-restart-20260101T000000Z",
                "log.stasis-kept-restart-20260101T235959Z-17",
                "log.stasis-tail-restart-20260102T000000Z",
        };
        static const char *const others[] = {
                newest,
                "log",
                "log.stasis-tail-20260101T000000Z", /* by hand */
                "log.stasis-kept-20260101T000000Z",
                "log.stasis-tail-restart-20260103T000000Z", /* newer */
                "log.stasis-tail-restart-20260101T000000Z.gz",
                "log.stasis-tail-restart-20260101T000000Z-x",
                "log.stasis-tail-restart-20260101T000000Z-",
                "log.stasis-tail-restart-2026010T000000Z",
                "log.stasis-tail-restart-",
                "log.stasis-other-restart-20260101T000000Z",
                "log2.stasis-tail-restart-20260101T000000Z",
                "lo.stasis-tail-restart-20260101T000000Z",
                "log.stasis-tail-restart-20250101T000000Z", /* a directory */
                "log.stasis-tail-restart-20240101T000000Z", /* a link */
                "log.stasis-tail-restart-20230101T000000Z", /* somebody else's */
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(older); i++)
                put(older[i]);
        assert_int_equal(mkdirat(dir_fd, others[ELEMENTSOF(others) - 3], 0700), 0);
        assert_int_equal(symlinkat("log", dir_fd, others[ELEMENTSOF(others) - 2]), 0);
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                if (!is_there(others[i]))
                        put(others[i]);
        if (geteuid() == 0)
                assert_int_equal(fchownat(dir_fd, others[ELEMENTSOF(others) - 1], 12345, 12345, 0), 0);
        else
                assert_int_equal(unlinkat(dir_fd, others[ELEMENTSOF(others) - 1], 0), 0);

        assert_int_equal(file_companions_remove_older(dir_fd, "log", newest), ELEMENTSOF(older));
        for (size_t i = 0; i < ELEMENTSOF(older); i++)
                assert_false(is_there(older[i]));
        for (size_t i = 0; i < ELEMENTSOF(others) - (geteuid() != 0); i++)
                assert_true(is_there(others[i]));
        assert_int_equal(file_companions_remove_older(dir_fd, "log", newest), 0);
}

/** Of a restore by hand nothing older goes; nor when the newest is not there, or is of another file. */
static void test_none(void **state) {
        static const char old[] = "a.stasis-tail-restart-20260101T000000Z";

        (void)state;
        put(old);
        put("a.stasis-tail-20260102T000000Z");
        put("b.stasis-tail-restart-20260102T000000Z");
        assert_int_equal(file_companions_remove_older(dir_fd, "a", "a.stasis-tail-20260102T000000Z"), 0);
        assert_int_equal(file_companions_remove_older(dir_fd, "a", "a.stasis-tail-restart-20270102T000000Z"), 0);
        assert_int_equal(file_companions_remove_older(dir_fd, "a", "b.stasis-tail-restart-20260102T000000Z"), 0);
        assert_true(is_there(old));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_older),
                cmocka_unit_test(test_none),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
