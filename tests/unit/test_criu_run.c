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
#include "base/messages.h"
#include "base/path.h"
#include "criu/criu.h"

struct place {
        char *root, *script;
        Criu__CriuOpts *options;
        struct criu_binary binary;
};

/*
 * A program in the place of CRIU that tells what it was given: into `seen`, and to its stderr. In bash, which needs
 * none of the descriptors looked at for itself.
 */
static const char program[] = "#!/bin/bash\n"
                              "cd \"$(dirname \"$0\")\" || exit 9\n"
                              "echo complaint >&2\n"
                              "exec >seen\n"
                              "printf '%s\\n' \"$@\"\n"
                              "echo \"config=$CRIU_CONFIG_FILE other=$OTHER\"\n"
                              "read -r pid comm state ppid pgrp session rest </proc/$$/stat\n"
                              "[ \"$session\" = \"$$\" ] && echo own-session || echo our-session\n"
                              "for fd in 10 11 12 20 33; do\n"
                              "  [ -e /proc/$$/fd/$fd ] && echo \"fd $fd $(readlink /proc/$$/fd/$fd)\"\n"
                              "done\n"
                              "exit 5\n";

static int setup(void **state) {
        char template[] = "/tmp/stasis-test-XXXXXX";
        struct place *p = NEW(struct place);

        p->root = xstrdup(mkdtemp(template));
        p->script = path_join(p->root, "criu");
        p->options = message_new(&criu__criu_opts__descriptor);
        p->binary = (struct criu_binary){ .path = p->script, .working = true };
        *state = p;
        return io_replace_file(p->script, program, strlen(program), 0755, false);
}

static int teardown(void **state) {
        struct place *p = *state;

        io_remove_tree(p->root);
        message_freep(&p->options);
        free(p->root);
        free(p->script);
        free(p);
        return 0;
}

static struct criu_run a_run(const struct place *p, enum criu_operation operation) {
        return (struct criu_run){
                .binary = &p->binary,
                .operation = operation,
                .options = p->options,
                .work_dir = p->root,
                .pid = 4711,
                .lock_fd = -EBADF,
        };
}

/* Runs it to its end. @return what it has seen, malloc'ed */
static char *run_and_see(const struct place *p, const struct criu_run *run) {
        _cleanup_free_ char *path = path_join(p->root, "seen");
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_close_ int pidfd = -EBADF;
        size_t size;
        char *seen;
        int status;
        pid_t pid = criu_start(run, &pidfd, &err);

        if (pid < 0)
                fail_msg("%s", st_error_message(err));
        assert_true(pidfd >= 0);
        assert_true(spawn_wait(pid, &status) >= 0);
        assert_int_equal(spawn_exit_code(status), 5);
        assert_int_equal(io_read_file(AT_FDCWD, path, 1 << 16, &seen, &size), 0);
        return seen;
}

static void expect_begins(const char *seen, const char *wanted) {
        if (strncmp(seen, wanted, strlen(wanted)) != 0)
                fail_msg("%s\n--- wanted:\n%s", seen, wanted);
}

static void dump(void **state) {
        struct place *p = *state;
        struct criu_run run = a_run(p, CRIU_DUMP);
        _cleanup_free_ char *log = criu_log_path(p->root, CRIU_DUMP), *text = NULL, *wanted = NULL, *first = NULL,
                            *second = NULL, *third = NULL;
        struct stat st;
        size_t size;

        wanted = xasprintf("dump\n--no-default-config\n--stream\n--images-dir=%s\n--work-dir=%s\n"
                           "--log-file=dump.log\n-v4\n--tree=4711\nconfig= other=\nown-session\n",
                           p->root, p->root);
        first = run_and_see(p, &run);
        assert_string_equal(first, wanted);
        /* What CRIU says before it has a log is in the log. */
        assert_true(text_ends_with(log, "/dump.log"));
        assert_int_equal(io_read_file(AT_FDCWD, log, 4096, &text, &size), 0);
        assert_string_equal(text, "complaint\n");
        assert_int_equal(stat(log, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);

        free(wanted);
        p->options->has_log_level = 1;
        p->options->log_level = 2;
        p->options->has_tcp_established = p->options->tcp_established = 1;
        run.leave_running = true;
        run.action_script = "/x/stasis-hook";
        wanted = xasprintf("dump\n--no-default-config\n--stream\n--images-dir=%s\n--work-dir=%s\n"
                           "--log-file=dump.log\n-v2\n--tree=4711\n--leave-running\n"
                           "--action-script=/x/stasis-hook\n--tcp-established\n",
                           p->root, p->root);
        second = run_and_see(p, &run);
        expect_begins(second, wanted);

        run.leave_stopped = true;
        third = run_and_see(p, &run);
        assert_null(strstr(third, "--leave-running"));
        assert_non_null(strstr(third, "--leave-stopped\n"));
}

static void restore(void **state) {
        struct place *p = *state;
        struct criu_run run = a_run(p, CRIU_RESTORE);
        _cleanup_free_ char *wanted = NULL, *seen = NULL;
        _cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        _cleanup_close_ int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        struct spawn_fd fds[] = { { null, 20 }, { zero, 10 } };

        run.pid_file = "/x/pid";
        run.in_session = true;
        run.leave_running = true; /* of a dump */
        run.fds = fds;
        run.n_fds = 2;
        run.lock_fd = null;
        run.environment = (char *[]){
                (char *)"OTHER=1",
                (char *)"CRIU_CONFIG_FILE=/x",
                (char *)"PATH=/usr/bin:/bin",
                NULL,
        };
        assert_in_range(null, 3, 9);
        wanted = xasprintf("restore\n--no-default-config\n--stream\n--images-dir=%s\n--work-dir=%s\n"
                           "--log-file=restore.log\n-v4\n--restore-detached\n--restore-sibling\n--pidfile=/x/pid\n"
                           "config= other=1\nour-session\nfd 10 /dev/zero\nfd 11 /dev/null\nfd 20 /dev/null\n",
                           p->root, p->root);
        seen = run_and_see(p, &run);
        assert_string_equal(seen, wanted);
}

/* A lock with a number that no other descriptor takes keeps it. */
static void lock(void **state) {
        struct place *p = *state;
        struct criu_run run = a_run(p, CRIU_DUMP);
        _cleanup_free_ char *seen = NULL;
        _cleanup_close_ int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 33);

        assert_int_equal(fd, 33);
        run.lock_fd = fd;
        seen = run_and_see(p, &run);
        assert_non_null(strstr(seen, "\nfd 33 "));
}

static void nothing_to_start(void **state) {
        struct place *p = *state;
        struct criu_run run = a_run(p, CRIU_DUMP);
        _cleanup_error_ struct st_error *gone = NULL, *refused = NULL, *nowhere = NULL;
        int pidfd = -EBADF;

        p->options->has_auto_dedup = p->options->auto_dedup = 1;
        assert_int_equal(criu_start(&run, &pidfd, &refused), -EINVAL);
        p->options->auto_dedup = 0;
        unlink(p->script);
        assert_int_equal(criu_start(&run, &pidfd, &gone), -ENOENT);
        assert_non_null(strstr(st_error_message(gone), "cannot start CRIU"));
        run.work_dir = "/nonexistent";
        assert_int_equal(criu_start(&run, &pidfd, &nowhere), -ENOENT);
}

/* The real one, without a streamer: it fails before it touches anything, and says so. */
static void real_criu(void **state) {
        struct place *p = *state;
        struct criu_run run = a_run(p, CRIU_RESTORE);
        _cleanup_(criu_binary_freep) struct criu_binary *binary = NULL;
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_free_ char *logs = path_join(p->root, "logs");
        int status;

        assert_int_equal(setenv("STASIS_RUN_DIR", p->root, 1), 0);
        assert_int_equal(setenv("STASIS_LOG_DIR", logs, 1), 0);
        if (geteuid() != 0 || criu_find(NULL, &binary, NULL) < 0 || !binary->working)
                skip();
        run.binary = binary;
        pid_t pid = criu_start(&run, NULL, &err);
        assert_true(pid > 0);
        assert_true(spawn_wait(pid, &status) >= 0);
        assert_int_equal(spawn_exit_code(status), 1);
        assert_int_equal(criu_fail(p->root, CRIU_RESTORE, status, "op", 0, 10, &err), -ECONNREFUSED);
        assert_non_null(strstr(st_error_message(err),
                               "CRIU could not restore process tree: CRIU could not connect to the image stream"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(dump, setup, teardown),
                cmocka_unit_test_setup_teardown(restore, setup, teardown),
                cmocka_unit_test_setup_teardown(lock, setup, teardown),
                cmocka_unit_test_setup_teardown(nothing_to_start, setup, teardown),
                cmocka_unit_test_setup_teardown(real_criu, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
