/* SPDX-License-Identifier: Apache-2.0 */

/* The options in /etc/criu/runc.conf of an engine, in a root directory of the test's own. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/text.h"

#include "../../plugins/docker/docker_criu_conf.h"

static const char *const established[] = { "tcp-established", NULL };
static const char *const two[] = { "tcp-established", "ghost-limit 5000000", NULL };

static char root[64];
static int root_fd = -EBADF;

static int make_root(void **state) {
        (void)state;
        snprintf(root, sizeof(root), "/tmp/stasis-conf.XXXXXX");
        if (!mkdtemp(root) || chdir(root) < 0 || mkdir("etc", 0755) < 0)
                return -1;
        root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return root_fd < 0 ? -1 : 0;
}

static int remove_root(void **state) {
        (void)state;
        close(root_fd);
        return chdir("/") < 0 ? -1 : io_remove_tree(root);
}

static void put(const char *text) {
        FILE *f = fopen("etc/criu/runc.conf", "we");
        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

/* The file, static; NULL when there is none. */
static const char *now(void) {
        static char text[4096];
        FILE *f = fopen("etc/criu/runc.conf", "re");
        if (!f)
                return NULL;
        text[fread(text, 1, sizeof(text) - 1, f)] = 0;
        assert_int_equal(fclose(f), 0);
        return text;
}

static bool has(const char *line) {
        char wanted[128];
        snprintf(wanted, sizeof(wanted), "\n%s\n", line);
        return now() && strstr(now(), wanted);
}

static void assert_only(const char *names) {
        _cleanup_free_ char *command = NULL;
        assert_true(asprintf(&command, "test \"$(ls -A etc/criu 2>/dev/null | tr '\\n' ' ')\" = '%s'", names) > 0);
        pid_t pid = fork();
        if (pid == 0) {
                execl("/bin/sh", "sh", "-c", command, NULL);
                _exit(127);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static struct docker_criu_conf *begin(const char *const options[]) {
        struct docker_criu_conf *conf;
        _cleanup_error_ struct st_error *err = NULL;
        int r = docker_criu_conf_begin_at(NULL, root_fd, options, &conf, &err);
        if (r < 0)
                fail_msg("%s", st_error_message(err));
        return conf;
}

static void absent(void **state) {
        (void)state;
        struct docker_criu_conf *conf = begin(two);
        assert_non_null(conf);
        assert_true(has("tcp-established"));
        assert_true(has("ghost-limit 5000000"));
        assert_null(docker_criu_conf_end(conf));
        assert_int_equal(access("etc/criu", F_OK), -1);

        /* A directory that was there stays. */
        assert_int_equal(mkdir("etc/criu", 0755), 0);
        docker_criu_conf_end(begin(established));
        assert_only("");
        assert_int_equal(access("etc/criu", F_OK), 0);
}

static void present(void **state) {
        static const char *const texts[] = { "", "ghost-limit 1\n", "no newline at the end", "#tcp-established\n" };
        struct stat before, after;
        (void)state;

        assert_int_equal(mkdir("etc/criu", 0755), 0);
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                put(texts[i]);
                assert_int_equal(chmod("etc/criu/runc.conf", 0640), 0);
                assert_int_equal(stat("etc/criu/runc.conf", &before), 0);
                struct docker_criu_conf *conf = begin(established);
                assert_true(has("tcp-established"));
                assert_non_null(strstr(now(), texts[i]));
                docker_criu_conf_end(conf);
                assert_string_equal(now(), texts[i]);
                assert_int_equal(stat("etc/criu/runc.conf", &after), 0);
                assert_true(before.st_ino == after.st_ino && before.st_mode == after.st_mode);
                assert_true(before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
                assert_only("runc.conf ");
        }
        /* A link stays one. */
        assert_int_equal(rename("etc/criu/runc.conf", "etc/criu/real"), 0);
        assert_int_equal(symlink("real", "etc/criu/runc.conf"), 0);
        docker_criu_conf_end(begin(established));
        assert_int_equal(lstat("etc/criu/runc.conf", &after), 0);
        assert_true(S_ISLNK(after.st_mode));
        assert_only("real runc.conf ");
}

static void said_already(void **state) {
        (void)state;
        assert_int_equal(mkdir("etc/criu", 0755), 0);
        put("  tcp-established \n");
        assert_null(begin(established));
        assert_only("runc.conf ");
        /* Of two, only one is missing: it is added, the other not twice. */
        struct docker_criu_conf *conf = begin(two);
        assert_non_null(conf);
        assert_true(has("ghost-limit 5000000"));
        assert_false(has("tcp-established"));
        docker_criu_conf_end(conf);
        assert_string_equal(now(), "  tcp-established \n");
}

static void several(void **state) {
        (void)state;
        struct docker_criu_conf *a = begin(established), *b = begin(two);
        assert_true(has("ghost-limit 5000000"));
        docker_criu_conf_end(b);
        assert_false(has("ghost-limit 5000000"));
        assert_true(has("tcp-established"));
        b = begin(two);
        docker_criu_conf_end(a);
        assert_true(has("tcp-established"));
        docker_criu_conf_end(b);
        assert_int_equal(access("etc/criu", F_OK), -1);
}

/* What a killed one leaves, the next one takes back, and so does the clean-up. */
static void killed(void **state) {
        (void)state;
        for (int i = 0; i < 2; i++) {
                assert_true(mkdir("etc/criu", 0755) == 0 || errno == EEXIST);
                put("before\n");
                pid_t pid = fork();
                if (pid == 0) {
                        begin(two);
                        _exit(0);
                }
                int status;
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(has("ghost-limit 5000000"));
                if (i == 0)
                        assert_int_equal(docker_criu_conf_mend_at(root_fd, NULL), 0);
                else {
                        struct docker_criu_conf *conf = begin(established);
                        assert_false(has("ghost-limit 5000000"));
                        docker_criu_conf_end(conf);
                }
                assert_string_equal(now(), "before\n");
                assert_only("runc.conf ");
        }
        assert_int_equal(io_remove_tree("etc/criu"), 0);
        assert_int_equal(docker_criu_conf_mend_at(root_fd, NULL), 0);
        assert_int_equal(access("etc/criu", F_OK), -1);
}

/* Whoever edits the file meanwhile keeps the edit. */
static void edited(void **state) {
        (void)state;
        assert_int_equal(mkdir("etc/criu", 0755), 0);
        put("before\n");
        struct docker_criu_conf *conf = begin(established);
        FILE *f = fopen("etc/criu/runc.conf", "ae");
        assert_non_null(f);
        assert_true(fputs("after\n", f) >= 0);
        assert_int_equal(fclose(f), 0);
        docker_criu_conf_end(conf);
        assert_string_equal(now(), "before\nafter\n");
        assert_only("runc.conf ");

        conf = begin(established);
        assert_int_equal(unlink("etc/criu/runc.conf"), 0);
        put("all new\n");
        docker_criu_conf_end(conf);
        assert_string_equal(now(), "all new\n");
        assert_only("runc.conf ");
}

static void refused(void **state) {
        struct docker_criu_conf *conf;
        static const char *const bad[] = { "a\nb", NULL }, *const empty[] = { "", NULL }, *const none[] = { NULL };
        (void)state;
        assert_int_equal(docker_criu_conf_begin_at(NULL, root_fd, bad, &conf, NULL), -EINVAL);
        assert_int_equal(docker_criu_conf_begin_at(NULL, root_fd, empty, &conf, NULL), -EINVAL);
        assert_null(begin(none));
        assert_null(docker_criu_conf_end(NULL));
        assert_int_equal(access("etc/criu", F_OK), -1);

        /* A directory in its place: refused, and nothing is left. */
        assert_int_equal(mkdir("etc/criu", 0755), 0);
        assert_int_equal(mkdir("etc/criu/runc.conf", 0755), 0);
        assert_int_equal(docker_criu_conf_begin_at(NULL, root_fd, established, &conf, NULL), -EINVAL);
        assert_null(conf);
        assert_only("runc.conf ");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(absent, make_root, remove_root),
                cmocka_unit_test_setup_teardown(present, make_root, remove_root),
                cmocka_unit_test_setup_teardown(said_already, make_root, remove_root),
                cmocka_unit_test_setup_teardown(several, make_root, remove_root),
                cmocka_unit_test_setup_teardown(killed, make_root, remove_root),
                cmocka_unit_test_setup_teardown(edited, make_root, remove_root),
                cmocka_unit_test_setup_teardown(refused, make_root, remove_root),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
