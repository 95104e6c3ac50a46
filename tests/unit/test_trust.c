/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Plugins of a program in its build tree: a copy of this test is one, below a directory such as /tmp, where anybody may
 * make new names.
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "base/spawn.h"
#include "base/text.h"
#include "plugin/trust.h"

static char parent[64];

static void put(const char *path, const char *content, size_t size, mode_t mode) {
        assert_int_equal(io_replace_file(path, content, size, mode, false), 0);
        assert_int_equal(chmod(path, mode), 0);
}

/* PARENT/build is a build tree, PARENT/build/plugins/a.so a plugin; we are in PARENT. */
static int make_tree(void **state) {
        _cleanup_free_ char *content = NULL;
        size_t size;

        (void)state;
        memcpy(parent, "/tmp/stasis-trust.XXXXXX", sizeof("/tmp/stasis-trust.XXXXXX"));
        if (!mkdtemp(parent) || chmod(parent, 01777) < 0 || chdir(parent) < 0)
                return -1;
        for (size_t i = 0; i < 4; i++) {
                const char *const made[] = { "build", "build/plugins", "build/other", "elsewhere" };
                if (mkdir(made[i], 0755) < 0)
                        return -1;
        }
        if (io_read_file(AT_FDCWD, "/proc/self/exe", 256 << 20, &content, &size) < 0)
                return -1;
        put("build/stasis", content, size, 0755);
        put("build/build.ninja", "", 0, 0644);
        put("build/plugins/a.so", "", 0, 0644);
        put("build/other/a.so", "", 0, 0644);
        put("elsewhere/a.so", "", 0, 0644);
        return 0;
}

static int remove_tree(void **state) {
        (void)state;
        return chdir("/") < 0 ? -1 : io_remove_tree(parent);
}

/* In the copy: may DIRECTORY/a.so be loaded? 0 yes, 1 it is refused, 2 something else is wrong. */
static int check(const char *directory) {
        _cleanup_free_ char *file = path_join(directory, "a.so");
        _cleanup_close_ int fd = -EBADF;
        int r = trust_directory(directory, &fd, NULL);

        if (r >= 0)
                r = trust_file(fd, "a.so", file, NULL);
        return r >= 0 ? 0 : r == -EPERM ? 1 : 2;
}

static int run(const char *directory) {
        _cleanup_free_ char *program = path_join(parent, "build/stasis"), *path = path_join(parent, directory);
        char *argv[] = { program, path, NULL };
        const struct spawn spawn = { .path = program, .argv = argv, .inherit_stdio = true };

        return spawn_run(&spawn, 10000, NULL, NULL);
}

#define assert_trusted(directory) assert_int_equal(run(directory), 0)
#define assert_refused(directory) assert_int_equal(run(directory), 1)

static void test_beside_program(void **state) {
        (void)state;
        assert_trusted("build/plugins");
        assert_refused("build/plugins/../other");
        /* Only these. */
        assert_refused("build/other");
        assert_refused("elsewhere");
        assert_int_equal(rename("build/other", "build/plugins-old"), 0);
        assert_refused("build/plugins-old");
        /* What was installed has no build tree. */
        assert_int_equal(unlink("build/build.ninja"), 0);
        assert_refused("build/plugins");
}

static void test_others_can_write(void **state) {
        (void)state;
        assert_int_equal(chmod("build/plugins", 0775), 0);
        assert_refused("build/plugins");
        assert_int_equal(chmod("build/plugins", 01777), 0);
        assert_refused("build/plugins");
        assert_int_equal(chmod("build/plugins", 0755), 0);
        assert_int_equal(chmod("build/plugins/a.so", 0664), 0);
        assert_refused("build/plugins");
        assert_int_equal(chmod("build/plugins/a.so", 0644), 0);
        assert_trusted("build/plugins");
}

/* Who owns the program may own its plugins; nobody else but root. */
static void test_owners(void **state) {
        (void)state;
        if (geteuid() != 0)
                skip();
        assert_int_equal(chown("build/plugins/a.so", 12345, 12345), 0);
        assert_refused("build/plugins");
        assert_int_equal(chown("build/plugins", 12345, 12345), 0);
        assert_refused("build/plugins");
        assert_int_equal(chown("build/stasis", 12345, 12345), 0);
        assert_trusted("build/plugins");
        assert_int_equal(chmod("build/plugins/a.so", 0646), 0);
        assert_refused("build/plugins");
        assert_int_equal(chmod("build/plugins/a.so", 0644), 0);
        assert_int_equal(chown("build/plugins/a.so", 54321, 54321), 0);
        assert_refused("build/plugins");
}

/* A link there leads on only through what is safe, too. */
static void test_links(void **state) {
        (void)state;
        assert_int_equal(symlink("../../elsewhere", "build/plugins/link"), 0);
        assert_trusted("build/plugins/link");
        assert_int_equal(chmod("elsewhere", 0777), 0);
        assert_refused("build/plugins/link");
        assert_int_equal(chmod("elsewhere", 0755), 0);
        assert_int_equal(unlink("build/plugins/a.so"), 0);
        assert_int_equal(symlink("../../elsewhere/a.so", "build/plugins/a.so"), 0);
        assert_int_equal(run("build/plugins"), 2);
}

int main(int argc, char **argv) {
        if (argc > 1)
                return check(argv[1]);

        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_beside_program, make_tree, remove_tree),
                cmocka_unit_test_setup_teardown(test_others_can_write, make_tree, remove_tree),
                cmocka_unit_test_setup_teardown(test_owners, make_tree, remove_tree),
                cmocka_unit_test_setup_teardown(test_links, make_tree, remove_tree),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
