/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "criu/criu.h"

/* The version, whether it works, and whether it locks connections by nftables. */
#define QUESTIONS 3

struct place {
        char *root, *run, *calls;
};

static int setup(void **state) {
        char template[] = "/tmp/stasis-test-XXXXXX";
        struct place *p = NEW(struct place);

        p->root = xstrdup(mkdtemp(template));
        p->run = path_join(p->root, "run");
        p->calls = path_join(p->root, "calls");
        *state = p;
        return setenv("STASIS_RUN_DIR", p->run, 1);
}

static int teardown(void **state) {
        struct place *p = *state;

        io_remove_tree(p->root);
        free(p->root);
        free(p->run);
        free(p->calls);
        free(p);
        return 0;
}

/* A program that says it is CRIU of that version; each of its runs adds a line to `calls`. */
static char *fake(const struct place *p, const char *directory, const char *version, const char *on_check) {
        _cleanup_free_ char *where = path_join(p->root, directory);
        char *path = path_join(where, "criu");
        _cleanup_free_ char *script = xasprintf("#!/bin/sh\necho \"$*\" >>%s\n"
                                                "case \"$*\" in\n"
                                                "*--version) echo 'Version: %s'; echo 'GitID: v0.1';;\n"
                                                "*check) %s;;\n"
                                                "esac\n",
                                                p->calls, version, on_check);

        assert_int_equal(io_make_directories(where, 0755), 0);
        assert_int_equal(io_replace_file(path, script, strlen(script), 0755, false), 0);
        return path;
}

/* How many times was it run since the last call? */
static size_t calls(const struct place *p) {
        char *text;
        size_t size, n = 0;

        if (io_read_file(AT_FDCWD, p->calls, 1 << 16, &text, &size) < 0)
                return 0;
        for (const char *c = text; *c; c++)
                n += *c == '\n';
        free(text);
        unlink(p->calls);
        return n;
}

static char *cache_file(const struct place *p) {
        _cleanup_free_ char *pattern = path_join(p->run, "criu-*.json");
        glob_t found;

        assert_int_equal(glob(pattern, 0, NULL, &found), 0);
        assert_int_equal(found.gl_pathc, 1);
        char *path = xstrdup(found.gl_pathv[0]);
        globfree(&found);
        return path;
}

static void expect_found(const char *path, const char *version, int number) {
        _cleanup_(criu_binary_freep) struct criu_binary *binary = NULL;
        _cleanup_error_ struct st_error *err = NULL;

        if (criu_find(path, &binary, &err) < 0)
                fail_msg("%s", st_error_message(err));
        assert_string_equal(binary->path, path);
        assert_string_equal(binary->version, version);
        assert_int_equal(binary->number, number);
        assert_true(binary->working);
        assert_null(binary->problem);
}

static void expect_missing(const char *configured, const char *message) {
        _cleanup_(criu_binary_freep) struct criu_binary *binary = NULL;
        _cleanup_error_ struct st_error *err = NULL;

        assert_int_equal(criu_find(configured, &binary, &err), -ENOPKG);
        assert_null(binary);
        if (!strstr(st_error_message(err), message) || !strstr(st_error_message(err), "scripts/install-criu"))
                fail_msg("%s", st_error_message(err));
}

static void cache(void **state) {
        struct place *p = *state;
        /* A file of options that somebody's environment names is none of its business. */
        _cleanup_free_ char *path = fake(p, "a", "4.2.1", "[ -z \"$CRIU_CONFIG_FILE\" ]");

        assert_int_equal(setenv("CRIU_CONFIG_FILE", "/nonexistent", 1), 0);
        expect_found(path, "4.2.1", 40201);
        assert_int_equal(unsetenv("CRIU_CONFIG_FILE"), 0);
        assert_int_equal(calls(p), QUESTIONS);
        expect_found(path, "4.2.1", 40201);
        assert_int_equal(calls(p), 0);

        /* Another file under the same name. */
        free(fake(p, "a", "4.10", "exit 0"));
        expect_found(path, "4.10", 41000);
        assert_int_equal(calls(p), QUESTIONS);
        expect_found(path, "4.10", 41000);
        assert_int_equal(calls(p), 0);
}

static bool locks_by_nftables(const char *path) {
        _cleanup_(criu_binary_freep) struct criu_binary *binary = NULL;

        assert_int_equal(criu_find(path, &binary, NULL), 0);
        return binary->nftables;
}

static void nftables(void **state) {
        struct place *p = *state;
        _cleanup_free_ char *with = fake(p, "a", "4.2.1", "exit 0;; *network_lock_nftables) exit 0");
        _cleanup_free_ char *without = fake(p, "b", "4.2.1", "exit 0;; *--feature*) exit 1");

        for (size_t i = 0; i < 2; i++) { /* asked, then from the cache */
                assert_true(locks_by_nftables(with));
                assert_false(locks_by_nftables(without));
        }
        assert_int_equal(calls(p), 2 * QUESTIONS);
}

static void bad_caches(void **state) {
        struct place *p = *state;
        static const char *const contents[] = {
                "", "{", "[]", "{\"key\": 1, \"version\": \"9.9\"}", "{\"key\": \"x\", \"version\": \"9.9\"}",
        };
        _cleanup_free_ char *path = fake(p, "a", "4.2.1", "exit 0"), *file = NULL, *good = NULL,
                            *big = xcalloc(1, 8192);
        size_t size;

        expect_found(path, "4.2.1", 40201);
        calls(p);
        file = cache_file(p);
        assert_int_equal(io_read_file(AT_FDCWD, file, 4096, &good, &size), 0);

        for (size_t i = 0; i < ELEMENTSOF(contents); i++) {
                assert_int_equal(io_replace_file(file, contents[i], strlen(contents[i]), 0600, false), 0);
                expect_found(path, "4.2.1", 40201);
                assert_int_equal(calls(p), QUESTIONS);
                expect_found(path, "4.2.1", 40201); /* mended */
                assert_int_equal(calls(p), 0);
        }
        assert_int_equal(io_replace_file(file, big, 8192, 0600, false), 0);
        expect_found(path, "4.2.1", 40201);
        assert_int_equal(calls(p), QUESTIONS);

        /* The same content in a file that others can write to, or that is a link. */
        assert_int_equal(chmod(file, 0666), 0);
        expect_found(path, "4.2.1", 40201);
        assert_int_equal(calls(p), QUESTIONS);
        _cleanup_free_ char *other = path_join(p->root, "other");
        assert_int_equal(rename(file, other), 0);
        assert_int_equal(symlink(other, file), 0);
        expect_found(path, "4.2.1", 40201);
        assert_int_equal(calls(p), QUESTIONS);

        /* No cache can be written at all. */
        io_remove_tree(p->run);
        assert_int_equal(io_replace_file(p->run, "x", 1, 0600, false), 0);
        expect_found(path, "4.2.1", 40201);
        expect_found(path, "4.2.1", 40201);
        assert_int_equal(calls(p), 2 * QUESTIONS);
}

static void does_not_work(void **state) {
        struct place *p = *state;
        _cleanup_(criu_binary_freep) struct criu_binary *one = NULL, *two = NULL;
        static const char complaint[] =
                "echo 'Error (criu/cr-check.c:9): No AIO syscall: Function not implemented'; exit 1";
        _cleanup_free_ char *path = fake(p, "a", "4.2.1", complaint);

        assert_int_equal(criu_find(path, &one, NULL), 0);
        assert_false(one->working);
        assert_string_equal(one->problem, "No AIO syscall: Function not implemented");
        assert_int_equal(calls(p), QUESTIONS - 1);

        /* Mended from outside, the file being the same: that is seen. */
        assert_int_equal(criu_find(path, &two, NULL), 0);
        assert_false(two->working);
        assert_int_equal(calls(p), QUESTIONS - 1);

        _cleanup_(criu_binary_freep) struct criu_binary *three = NULL;
        _cleanup_free_ char *silent = fake(p, "b", "4.1.1", "exit 7");
        assert_int_equal(criu_find(silent, &three, NULL), 0);
        assert_string_equal(three->problem, "`criu check` ended with exit code 7");
}

static void not_usable(void **state) {
        struct place *p = *state;
        _cleanup_free_ char *none = path_join(p->root, "nothing/criu"), *below = NULL, *message = NULL,
                            *old = fake(p, "old", "3.17.1", "exit 0"), *plain = fake(p, "plain", "4.2", "exit 0"),
                            *other = fake(p, "other", "4.2", "exit 0"), *strange = fake(p, "strange", "next", "exit 0"),
                            *directory = path_join(p->root, "old");

        expect_missing(none, "CRIU is missing: there is no ");
        below = path_join(old, "criu");
        expect_missing(below, "CRIU is missing");
        message = xasprintf("criu 3.17.1 in %s is too old: 4.1 is needed", old);
        expect_missing(old, message);
        expect_missing(directory, "is not executable");
        assert_int_equal(chmod(plain, 0644), 0);
        expect_missing(plain, "is not executable");
        assert_int_equal(io_replace_file(other, "#!/bin/sh\nexit 3\n", 17, 0755, false), 0);
        expect_missing(other, "prints no version (exit code 3)");
        assert_int_equal(io_replace_file(other, "\177ELF not", 8, 0755, false), 0);
        expect_missing(other, other);
        expect_missing(strange, "too old");
        expect_missing("no-such-criu-anywhere", "CRIU is missing");
}

static void search(void **state) {
        struct place *p = *state;
        _cleanup_free_ char *saved = xstrdup(getenv("PATH")), *good = fake(p, "2", "4.1", "exit 0"), *path = NULL,
                            *renamed = NULL;
        _cleanup_(criu_binary_freep) struct criu_binary *binary = NULL, *by_name = NULL;

        /* Relative and empty parts of PATH are not looked at; an old one in front does not matter. */
        free(fake(p, "1", "3.18", "exit 0"));
        path = xasprintf(".::%s/nothing:%s/1:%s/2", p->root, p->root, p->root);
        assert_int_equal(setenv("PATH", path, 1), 0);
        assert_int_equal(criu_find(NULL, &binary, NULL), 0);
        assert_string_equal(binary->path, good);

        renamed = xasprintf("%s/2/criu-test", p->root);
        assert_int_equal(rename(good, renamed), 0);
        assert_int_equal(criu_find("criu-test", &by_name, NULL), 0);
        assert_string_equal(by_name->path, renamed);
        assert_int_equal(setenv("PATH", saved, 1), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(cache, setup, teardown),
                cmocka_unit_test_setup_teardown(nftables, setup, teardown),
                cmocka_unit_test_setup_teardown(bad_caches, setup, teardown),
                cmocka_unit_test_setup_teardown(does_not_work, setup, teardown),
                cmocka_unit_test_setup_teardown(not_usable, setup, teardown),
                cmocka_unit_test_setup_teardown(search, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
