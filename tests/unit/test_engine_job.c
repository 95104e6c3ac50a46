/* SPDX-License-Identifier: Apache-2.0 */

/* What a job is surrounded by: its streams, its log, its PID file, its cgroup. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/engine.h"
#include "engine/job_cgroup.h"
#include "engine/job_stdio.h"
#include "engine/pid_file.h"

static char root[] = "/tmp/stasis-test.XXXXXX";

static int setup(void **unused) {
        (void)unused;
        return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **unused) {
        (void)unused;
        return io_remove_tree(root);
}

static void goes_through(int to, int from) {
        char buffer[8] = "";

        assert_int_equal(write(to, "abc", 3), 3);
        assert_int_equal(read(from, buffer, sizeof(buffer)), 3);
        assert_string_equal(buffer, "abc");
}

static void test_pipes(void **unused) {
        (void)unused;
        _cleanup_(job_stdio_clear) struct job_stdio stdio = JOB_STDIO_NULL;
        struct engine_started started = ENGINE_STARTED_NULL;

        assert_false(engine_started_has_stdio(&started));
        assert_int_equal(job_stdio_make_pipes(&stdio, NULL), 0);
        assert_false(stdio.terminal);
        assert_int_equal(stdio.ours.terminal, -EBADF);
        goes_through(stdio.ours.in, stdio.job[0]);
        goes_through(stdio.job[1], stdio.ours.out);
        goes_through(stdio.job[2], stdio.ours.err);
        for (int i = 0; i < 3; i++) {
                assert_true(stdio.job[i] > STDERR_FILENO);
                assert_true(fcntl(stdio.job[i], F_GETFD) & FD_CLOEXEC);
        }

        job_stdio_close_job(&stdio);
        assert_int_equal(read(stdio.ours.out, &(char){ 0 }, 1), 0);
        started.stdio = stdio.ours;
        stdio.ours = ENGINE_STDIO_NULL;
        assert_true(engine_started_has_stdio(&started));
        engine_started_clear(&started);
        assert_false(engine_started_has_stdio(&started));
}

static unsigned index_of(int master) {
        unsigned index;

        assert_int_equal(ioctl(master, TIOCGPTN, &index), 0);
        return index;
}

static void test_terminal(void **unused) {
        (void)unused;
        _cleanup_(job_stdio_clear) struct job_stdio stdio = JOB_STDIO_NULL, other = JOB_STDIO_NULL;
        Daemon__TerminalSize size = DAEMON__TERMINAL_SIZE__INIT;
        struct winsize window;
        unsigned index;

        size.has_rows = size.has_columns = 1;
        size.rows = 33;
        size.columns = 101;
        assert_int_equal(job_stdio_make_terminal(&size, NULL, 0, &stdio, NULL), 0);
        assert_true(stdio.terminal && isatty(stdio.job[0]) && isatty(stdio.job[2]));
        assert_int_equal(ioctl(stdio.job[1], TIOCGWINSZ, &window), 0);
        assert_int_equal(window.ws_row, 33);
        assert_int_equal(window.ws_col, 101);
        goes_through(stdio.job[1], stdio.ours.terminal);

        size.rows = 70000; /* more than the kernel keeps: left as it is */
        job_stdio_resize(stdio.ours.terminal, &size);
        assert_int_equal(ioctl(stdio.job[1], TIOCGWINSZ, &window), 0);
        assert_int_equal(window.ws_row, 33);

        index = index_of(stdio.ours.terminal);
        job_stdio_clear(&stdio);
        assert_int_equal(job_stdio_make_terminal(NULL, &index, 1, &other, NULL), 0);
        assert_int_not_equal(index_of(other.ours.terminal), index);
}

static void test_log(void **unused) {
        (void)unused;
        _cleanup_free_ char *path = path_join(root, "log"), *link = path_join(root, "link"),
                            *fifo = path_join(root, "fifo"), *missing = path_join(root, "none/log");
        _cleanup_close_ int fd = job_stdio_open_log(path, 12, 34, NULL), again = -EBADF, linked = -EBADF;
        struct stat st;

        if (fd < 0 && geteuid() != 0) /* nobody else may give files away */
                skip();
        assert_true(fd > STDERR_FILENO);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_uid, 12);
        assert_int_equal(st.st_gid, 34);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK | O_ACCMODE), O_APPEND | O_WRONLY);

        /* One that is there keeps its owner. */
        again = job_stdio_open_log(path, 56, 78, NULL);
        assert_int_equal(fstat(again, &st), 0);
        assert_int_equal(st.st_uid, 12);

        /* A link of the job's user or root's is followed, another one's is not. */
        assert_int_equal(symlink(path, link), 0);
        linked = job_stdio_open_log(link, 12, 34, NULL);
        assert_true(linked >= 0);
        assert_int_equal(lchown(link, 99, 99), 0);
        assert_int_equal(job_stdio_open_log(link, 12, 34, NULL), -ELOOP);

        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(job_stdio_open_log(fifo, 12, 34, NULL), -ENXIO);
        assert_int_equal(job_stdio_open_log(missing, 12, 34, NULL), -ENOENT);
        assert_int_equal(job_stdio_open_log(root, 12, 34, NULL), -EISDIR);
}

static void test_pid_file(void **unused) {
        (void)unused;
        _cleanup_free_ char *given = path_join(root, "pid"), *path = NULL, *text = NULL, *problem = NULL, *none = NULL;
        _cleanup_free_ char *nowhere = path_join(root, "none/pid");

        assert_int_equal(pid_file_prepare("", &none, NULL), 0);
        assert_null(none);
        assert_null(pid_file_write(NULL, 42, 0, 0));
        assert_int_equal(pid_file_prepare(nowhere, &none, NULL), -ENOENT);
        assert_int_equal(pid_file_prepare(given, &path, NULL), 0);
        assert_null(pid_file_write(path, 42, geteuid(), getegid()));
        assert_int_equal(io_read_file(AT_FDCWD, path, 64, &text, NULL), 0);
        assert_string_equal(text, "42\n");
        problem = pid_file_write(nowhere, 42, 0, 0);
        assert_non_null(strstr(problem, "cannot write the PID file"));
}

/* Ours and theirs, as /proc/PID/cgroup has them. */
static void test_cgroup_texts(void **unused) {
        (void)unused;
        static const struct {
                const char *ours, *theirs;
                bool agree;
        } rows[] = {
                { "6:freezer:/\n0::/\n", "6:freezer:/\n0::/\n", true },
                { "6:freezer:/\n0::/\n", "6:freezer:/stasis-jobs/a\n0::/\n", true },
                { "6:freezer:/x\n0::/\n", "6:freezer:/x/stasis-jobs/a/deeper\n0::/\n", true },
                { "0::/system/d\n", "0::/system/d/stasis-jobs/a\n", true },
                { "6:freezer:/\n0::/\n", "6:freezer:/stasis-jobs\n0::/\n", false },
                { "6:freezer:/\n0::/\n", "6:freezer:/stasis-jobs/\n0::/\n", false },
                { "6:freezer:/x\n0::/\n", "6:freezer:/stasis-jobs/a\n0::/\n", false },
                { "6:freezer:/x\n0::/\n", "6:freezer:/xy/stasis-jobs/a\n0::/\n", false },
                { "6:freezer:/\n4:memory:/\n", "6:freezer:/stasis-jobs/a\n4:memory:/m\n", false },
                { "6:freezer:/\n", "7:freezer:/stasis-jobs/a\n", false },
                { "6:freezer:/\n0::/\n", "6:freezer:/\n", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                assert_int_equal(job_cgroup_texts_agree(rows[i].ours, rows[i].theirs), rows[i].agree);
}

static void test_cgroup(void **unused) {
        (void)unused;
        _cleanup_strv_ struct strv made = { 0 }, again = { 0 };
        _cleanup_free_ char *jid = xasprintf("unit-%d", (int)getpid());

        if (job_cgroup_make(jid, &made, NULL) < 0) /* none that may be written to */
                skip();
        assert_int_equal(made.n, 1);
        assert_int_equal(access(made.items[0], F_OK), 0);
        assert_int_equal(job_cgroup_make(jid, &again, NULL), 0);
        assert_string_equal(again.items[0], made.items[0]);
        assert_true(job_cgroup_is_all(getpid()));

        assert_int_equal(job_cgroup_remove(jid), 0);
        assert_int_equal(access(made.items[0], F_OK), -1);
        assert_int_equal(job_cgroup_remove(jid), 0);
}

/* Of two daemons, which may have jobs of the same name. */
static void test_cgroup_of_another(void **unused) {
        (void)unused;
        _cleanup_strv_ struct strv usual = { 0 }, other = { 0 };
        _cleanup_free_ char *jid = xasprintf("two-%d", (int)getpid()), *run_dir = NULL;

        if (getenv("STASIS_RUN_DIR"))
                run_dir = xstrdup(getenv("STASIS_RUN_DIR"));
        setenv("STASIS_RUN_DIR", PATH_RUN_DIR "/", 1);
        if (job_cgroup_make(jid, &usual, NULL) < 0)
                skip();
        assert_string_equal(path_name(usual.items[0]), jid);
        setenv("STASIS_RUN_DIR", "/tmp/another", 1);
        assert_int_equal(job_cgroup_make(jid, &other, NULL), 0);
        assert_string_not_equal(other.items[0], usual.items[0]);
        assert_memory_equal(path_name(other.items[0]), jid, strlen(jid));

        assert_int_equal(job_cgroup_remove(jid), 0);
        assert_int_equal(access(other.items[0], F_OK), -1);
        assert_int_equal(access(usual.items[0], F_OK), 0);
        unsetenv("STASIS_RUN_DIR");
        assert_int_equal(job_cgroup_remove(jid), 0);
        assert_int_equal(access(usual.items[0], F_OK), -1);
        if (run_dir)
                setenv("STASIS_RUN_DIR", run_dir, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_pipes),
                cmocka_unit_test(test_terminal),
                cmocka_unit_test(test_log),
                cmocka_unit_test(test_pid_file),
                cmocka_unit_test(test_cgroup_texts),
                cmocka_unit_test(test_cgroup),
                cmocka_unit_test(test_cgroup_of_another),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
