/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "base/spawn.h"
#include "base/text.h"

static void joining(void **state) {
        (void)state;
        static const char *const cases[][3] = {
                { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "a//", "//b", "a/b" },
                { "/", "b", "/b" },  { "/x", "", "/x/" },
        };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *path = path_join(cases[i][0], cases[i][1]);
                assert_string_equal(path, cases[i][2]);
        }
}

static void absolute_paths(void **state) {
        (void)state;
        static const char *const cases[][2] = {
                { "/a/./b/../c", "/a/b/../c" },
                { "/./.", "/" },
                { "/", "/" },
                { "//", "/" },
                { "/a//b/", "/a/b" },
                { "/a/.", "/a" },
                { "/.../x", "/.../x" },
                { "/a/../../b", "/a/../../b" },
        };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *path = path_absolute(cases[i][0]);
                assert_string_equal(path, cases[i][1]);
        }

        _cleanup_free_ char *here = getcwd(NULL, 0), *dot = path_absolute("."), *empty = path_absolute("");
        _cleanup_free_ char *below = path_absolute("x/./y"), *expected = path_join(here, "x/y");
        assert_string_equal(dot, here);
        assert_string_equal(empty, here);
        assert_string_equal(below, expected);
}

static void parts(void **state) {
        (void)state;
        static const char *const cases[][3] = {
                { "/a/b", "/a", "b" }, { "/a", "/", "a" },     { "a", ".", "a" },
                { "a/b", "a", "b" },   { "/a//b", "/a", "b" }, { "", ".", "" },
        };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *directory = path_directory(cases[i][0]);
                assert_string_equal(directory, cases[i][1]);
                assert_string_equal(path_name(cases[i][0]), cases[i][2]);
        }
}

static void names(void **state) {
        (void)state;
        char name[257];

        assert_true(path_is_name("a.b-c"));
        assert_true(path_is_name("..."));
        assert_true(path_is_name("ä"));
        static const char *const bad[] = { "", ".", "..", "a/b", "/", "a\nb", "\x7f" };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_false(path_is_name(bad[i]));
        memset(name, 'x', 256);
        name[256] = 0;
        assert_false(path_is_name(name));
        name[255] = 0;
        assert_true(path_is_name(name));
}

static void own_path(void **state) {
        (void)state;
        struct stat a, b;

        assert_int_equal(stat(path_self(), &a), 0);
        assert_int_equal(stat("/proc/self/exe", &b), 0);
        assert_true(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
        assert_ptr_equal(path_self(), path_self());
}

/* Runs this program's own main() as a copy in a directory. @return its exit code */
static int run_copy(const char *directory) {
        _cleanup_free_ char *copy = path_join(directory, "copy"), *content = NULL;
        char *argv[] = { copy, (char *)directory, NULL };
        const struct spawn spawn = { .path = copy, .argv = argv, .inherit_stdio = true };
        size_t size;

        assert_int_equal(io_read_file(AT_FDCWD, "/proc/self/exe", 256 << 20, &content, &size), 0);
        assert_int_equal(io_replace_file(copy, content, size, 0700, false), 0);
        return spawn_run(&spawn, 10000, NULL, NULL);
}

/* In the copy: 0 in a build tree, 1 in no build tree, 2 when the paths do not fit. */
static int check_copy(const char *directory) {
        _cleanup_free_ char *plugins = path_plugins(), *hook = path_libexec("stasis-hook");
        _cleanup_free_ char *plugins_here = path_join(directory, "plugins");
        _cleanup_free_ char *hook_here = path_join(directory, "stasis-hook");

        if (path_in_build_tree())
                return streq(plugins, plugins_here) && streq(hook, hook_here) ? 0 : 2;
        return text_ends_with(plugins, "/stasis/plugins") && text_ends_with(hook, "/stasis/stasis-hook") ? 1 : 2;
}

static void build_tree(void **state) {
        (void)state;
        char directory[] = "/tmp/stasis-test-path.XXXXXX";

        assert_non_null(mkdtemp(directory));
        _cleanup_free_ char *plugins = path_join(directory, "plugins"), *ninja = path_join(directory, "build.ninja");
        assert_int_equal(run_copy(directory), 1);
        assert_int_equal(mkdir(plugins, 0700), 0);
        assert_int_equal(run_copy(directory), 1);
        assert_int_equal(io_replace_file(ninja, "", 0, 0600, false), 0);
        assert_int_equal(run_copy(directory), 0);
        assert_int_equal(io_remove_tree(directory), 0);
}

static void environment_moves_directories(void **state) {
        (void)state;
        unsetenv("STASIS_RUN_DIR");
        unsetenv("STASIS_LOG_DIR");
        assert_string_equal(path_run_dir(), "/run/stasis");
        assert_string_equal(path_log_dir(), "/var/log/stasis");
        setenv("STASIS_RUN_DIR", "/tmp/run", 1);
        setenv("STASIS_LOG_DIR", "", 1);
        assert_string_equal(path_run_dir(), "/tmp/run");
        assert_string_equal(path_log_dir(), "/var/log/stasis");
        unsetenv("STASIS_RUN_DIR");
        unsetenv("STASIS_LOG_DIR");
}

int main(int argc, char **argv) {
        if (argc > 1)
                return check_copy(argv[1]);

        const struct CMUnitTest tests[] = {
                cmocka_unit_test(joining),
                cmocka_unit_test(absolute_paths),
                cmocka_unit_test(parts),
                cmocka_unit_test(names),
                cmocka_unit_test(own_path),
                cmocka_unit_test(build_tree),
                cmocka_unit_test(environment_moves_directories),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
