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
#include "base/memory.h"
#include "base/path.h"
#include "criu/digest.h"

/* Logs of real failures of CRIU 4.2.1, shortened. */
static const struct {
        const char *log;
        int number;
        const char *cause; /* part of it; NULL: there is no failure in it */
        const char *hint;  /* part of it; NULL: none */
} logs[] = {
        { "success-dump", 0, NULL, NULL },
        { "success-restore", 0, NULL, NULL },
        { "tcp", EOPNOTSUPP, "a TCP connection is in use", "--tcp-established" },
        { "tcp-restore", EOPNOTSUPP, "holds an open TCP connection", "--tcp-close" },
        { "in-flight", EBUSY, "waits to be accepted", "--skip-in-flight" },
        { "unix-external", EOPNOTSUPP, "process outside the tree", "--external" },
        { "vsock", EOPNOTSUPP, "address family 40 is open", "AF_VSOCK" },
        { "io-uring", EOPNOTSUPP, "io_uring", "UV_USE_IO_URING" },
        { "perf-event", EOPNOTSUPP, "the descriptor 3 (anon anon_inode:[perf_event])", "close it" },
        { "device", EOPNOTSUPP, "the descriptor 3 (chr 10:229)", "--external" },
        { "session", EOPNOTSUPP, "session of somebody else", "--shell-job" },
        { "tty", EOPNOTSUPP, "terminal (pts/0)", "--shell-job" },
        { "no-tty", ENOTTY, "needs a terminal", "--attach" },
        { "ghost", EFBIG, "the file /srv/app/gh is deleted but open", "{\"ghost_limit\": 3002368}" },
        { "link-remap", EBUSY, "/srv/app/lr was removed", "--link-remap" },
        { "file-locks", EBUSY, "file locks are held", "--file-locks" },
        { "bad-size", ESTALE, "file /srv/app/bs has changed since the checkpoint: its size is 7, it was 3", "append" },
        { "bad-mode", ESTALE, "it is 0100644, it was 0100755", "skip_file_rwx_check" },
        { "file-missing", ENOENT, "/srv/app/bs of the checkpoint cannot be opened: No such file", "put it back" },
        { "pid-taken", EEXIST, "the PID 14918 is already taken", "ps -p 14918" },
        { "address-in-use", EADDRINUSE, "address of a socket", "ss -ltnup" },
        { "unix-in-use", EADDRINUSE, "name of a UNIX socket", "ss -lxp" },
        { "dead", ESRCH, "14947 does not exist any more", NULL },
        { "kernel-thread", EPERM, "process 2 cannot be traced", "/proc/2/status" },
        { "traced", EPERM, "14991 cannot be traced", "TracerPid" },
        { "frozen", EBUSY, "24245 does not stop (state D)", "freeze_cgroup" },
        { "no-freezer", ENOENT, "names no cgroup", "/sys/fs/cgroup" },
        { "iptables", ENOPKG, "could not lock the network", "network_lock" },
        { "iptables-restore", ENOPKG, "iptables-restore", "network_lock" },
        { "mount", EOPNOTSUPP, "the descriptor 0 (/dev/null) is on a mount", "nsenter" },
        { "nested-pidns", EOPNOTSUPP, "in a pid namespace of their own", NULL },
        { "stream-closed", EPIPE, "stream of images was closed", "stasis itself" },
        { "no-streamer", ECONNREFUSED, "could not connect to the image stream", NULL },
        { "serve-closed", EPIPE, "stream of images was closed", "stasis itself" },
        { "pages-cut", EBADMSG, "memory pages of the checkpoint are cut off", "verify" },
        { "image-cut", EBADMSG, "image of the checkpoint is cut off", "verify" },
        { "bad-magic", EBADMSG, "image core-23957.img of the checkpoint is damaged", "verify" },
        { "garbage", EBADMSG, "is damaged", "verify" },
        { "no-inventory", EBADMSG, "missing or cut off", "verify" },
        { "hook", ECANCELED, "the hook /bin/false said no", "stasis itself" },
        { "lsm", EOPNOTSUPP, "a profile of apparmor", "lsm_profile" },
        { "unprivileged", EPERM, "CAP_SYS_ADMIN", "root" },
        { "usage", EIO, "Invalid value for --network-lock: foo", NULL },
        { "no-lazy-server", ECONNREFUSED, "server of memory pages", NULL },
};

static char *load(const char *name) {
        const char *source = getenv("STASIS_SOURCE");
        _cleanup_free_ char *path = xasprintf("%s/tests/unit/data/criu/%s.log", source ? source : "../..", name);
        char *text;
        size_t size;

        if (io_read_file(AT_FDCWD, path, 1 << 20, &text, &size) < 0)
                fail_msg("%s cannot be read", path);
        return text;
}

static void real_logs(void **state) {
        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(logs); i++) {
                _cleanup_(digest_clear) struct digest digest = { 0 };
                _cleanup_free_ char *text = load(logs[i].log);

                digest_log(text, &digest);
                if (digest.number != logs[i].number || !digest.cause != !logs[i].cause ||
                    !digest.hint != !logs[i].hint || (logs[i].cause && !strstr(digest.cause, logs[i].cause)) ||
                    (logs[i].hint && !strstr(digest.hint, logs[i].hint)))
                        fail_msg("%s: %d \"%s\" \"%s\"", logs[i].log, digest.number, digest.cause ? digest.cause : "",
                                 digest.hint ? digest.hint : "");
                /* Where in CRIU's source it was found out helps nobody. */
                if (digest.cause && (strstr(digest.cause, ".c:") || strstr(digest.cause, "(criu/")))
                        fail_msg("%s: %s", logs[i].log, digest.cause);
        }
}

static void expect(const char *log, const char *cause, const char *hint) {
        _cleanup_free_ char *got_cause = NULL, *got_hint = NULL;

        criu_digest(log, &got_cause, &got_hint);
        if (cause)
                assert_string_equal(got_cause ? got_cause : "(none)", cause);
        else
                assert_null(got_cause);
        if (hint)
                assert_string_equal(got_hint ? got_hint : "(none)", hint);
        else
                assert_null(got_hint);
}

static void choice(void **state) {
        (void)state;
        expect("", NULL, NULL);
        expect("\n\n\n", NULL, NULL);
        expect("(00.1) all is well\nError\nErrors are no error (x): y\n", NULL, NULL);

        /* An error that no row knows is told in CRIU's words, whatever stands before it. */
        expect("(00.000001) Error (criu/a.c:1): something new\n", "something new", NULL);
        expect("Error (criu/a.c:1): something new", "something new", NULL);
        expect("pie: 123: Error (criu/pie/a.c:1): something new\n", "something new", NULL);
        expect("(00.5) pie: 123: Error (a.c:1): something new\n", "something new", NULL);
        expect("(00.5)  12345: Error (a.c:1):   something new \r\n", "something new", NULL);

        /* The cause wins over what came before and after it. */
        expect("(00.1) Error (a.c:1): Can't setup RLIMIT_NOFILE for self: Operation not permitted\n"
               "(00.1) Error (a.c:1): Unable to open fd=3 id=0x19\n"
               "(00.1) Error (a.c:1): the cause\n"
               "(00.1) Error (a.c:1): a later one\n"
               "(00.1) Error (a.c:1): Dumping FAILED.\n",
               "the cause", NULL);
        /* The less telling is better than nothing; but never the harmless. */
        expect("(00.1) Error (a.c:1): Can't setup RLIMIT_NOFILE for self: Operation not permitted\n"
               "(00.1) Error (a.c:1): Dumping FAILED.\n",
               "Dumping FAILED.", NULL);
        expect("(00.1) Error (a.c:1): Can't setup RLIMIT_NOFILE for self: Operation not permitted\n", NULL, NULL);
        expect("(00.1) Error (a.c:1): Unable to open fd=3 id=0x19\n(00.1) Error (a.c:1): Restoring FAILED.\n",
               "Unable to open fd=3 id=0x19", NULL);
        /* What is plain output in a log is not taken for CRIU's complaints before it. */
        expect("(00.1) argv: CRIU needs to have the CAP_SYS_ADMIN\n", NULL, NULL);
        /* A captured text may hold what looks like a template, or a terminal's control sequence. */
        expect("(00.1) Error (a.c:1): Can't open file a$1\x1b[31m on restore: b\n",
               "the file /a$1?[31m of the checkpoint cannot be opened: b", "put it back before the restore");
}

static void rows_are_sound(void **state) {
        (void)state;
        size_t n;
        const struct digest_row *rows = digest_rows(&n);

        for (size_t i = 0; i < n; i++) {
                size_t stars = 0;

                for (const char *c = rows[i].pattern; *c; c++)
                        stars += *c == '*';
                assert_in_range(rows[i].rank, DIGEST_HARMLESS, DIGEST_CAUSE);
                for (int text = 0; text < 2; text++)
                        for (const char *c = text ? rows[i].hint : rows[i].cause; c && *c; c++)
                                if (*c == '$' && (size_t)(c[1] - '0') > stars)
                                        fail_msg("%s: $%c is not captured", rows[i].pattern, c[1]);
                /* A row before must not take what this one is for. */
                for (size_t j = 0; j < i; j++)
                        if (rows[j].line == rows[i].line && !strchr(rows[j].pattern, '*') &&
                            strstr(rows[i].pattern, rows[j].pattern))
                                fail_msg("%s hides %s", rows[j].pattern, rows[i].pattern);
        }
}

struct place {
        char *root, *work, *logs;
};

static int place_setup(void **state) {
        char template[] = "/tmp/stasis-test-XXXXXX";
        struct place *p = NEW(struct place);

        p->root = xstrdup(mkdtemp(template));
        p->work = path_join(p->root, "work");
        p->logs = path_join(p->root, "new/logs");
        *state = p;
        return mkdir(p->work, 0700) < 0 || setenv("STASIS_LOG_DIR", p->logs, 1) < 0 ? -1 : 0;
}

static int place_teardown(void **state) {
        struct place *p = *state;

        io_remove_tree(p->root);
        free(p->root);
        free(p->work);
        free(p->logs);
        free(p);
        return 0;
}

static void put_log(const struct place *p, enum criu_operation operation, const char *text, size_t size) {
        _cleanup_free_ char *path = criu_log_path(p->work, operation);

        assert_int_equal(io_replace_file(path, text, size, 0600, false), 0);
}

static void failure_keeps_the_log(void **state) {
        struct place *p = *state;
        _cleanup_free_ char *text = load("tcp"), *log = criu_log_path(p->work, CRIU_DUMP);
        struct stat st;

        for (int i = 1; i <= 2; i++) {
                _cleanup_error_ struct st_error *err = NULL;
                _cleanup_free_ char *kept = xasprintf("%s/op7%s.log", p->logs, i == 1 ? "" : "-2"), *copy = NULL;
                _cleanup_free_ char *wanted = xasprintf("CRIU could not dump process tree: a TCP connection is in use "
                                                        "(log: %s) (hint: add --tcp-established",
                                                        kept);
                size_t size;

                put_log(p, CRIU_DUMP, text, strlen(text));
                assert_int_equal(criu_fail(p->work, CRIU_DUMP, 256, "op7", 0, &err), -EOPNOTSUPP);
                assert_int_equal(st_error_number(err), -EOPNOTSUPP);
                if (strncmp(st_error_message(err), wanted, strlen(wanted)) != 0)
                        fail_msg("%s", st_error_message(err));
                assert_int_equal(io_read_file(AT_FDCWD, kept, 1 << 20, &copy, &size), 0);
                assert_string_equal(copy, text);
                assert_int_equal(access(log, F_OK), -1);
                assert_int_equal(stat(kept, &st), 0);
                assert_int_equal(st.st_mode & 0777, 0600);
        }
        assert_int_equal(stat(p->logs, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
}

static void failure_without_errors(void **state) {
        struct place *p = *state;
        _cleanup_error_ struct st_error *none = NULL, *empty = NULL, *own = NULL;

        /* No log at all, killed; the number is what the caller wants. */
        assert_int_equal(criu_fail(p->work, CRIU_RESTORE, 9, "x", ETIMEDOUT, &none), -ETIMEDOUT);
        assert_non_null(strstr(st_error_message(none), "could not restore process tree: it was killed by SIGKILL"));
        assert_non_null(strstr(st_error_message(none), "left no log"));
        assert_null(strstr(st_error_message(none), "log: "));

        /* A log without an error, and a name that is a path: the log stays where it is. */
        put_log(p, CRIU_RESTORE, "(00.1) fine\n", 12);
        assert_int_equal(criu_fail(p->work, CRIU_RESTORE, 3 << 8, "../x", -ESRCH, &empty), -ESRCH);
        assert_non_null(strstr(st_error_message(empty), "exited with code 3"));
        assert_null(strstr(st_error_message(empty), "log: "));
        _cleanup_free_ char *log = criu_log_path(p->work, CRIU_RESTORE);
        assert_int_equal(access(log, F_OK), 0);

        /* A root cause on our side stays the innermost, and the number its own. */
        st_error_set(&own, ENOSPC, "the disk is full");
        assert_int_equal(criu_fail(p->work, CRIU_RESTORE, 256, "x", 0, &own), -ENOSPC);
        assert_true(text_ends_with(st_error_message(own), ": the disk is full"));
}

/* A log of many gigabytes is neither read nor copied as a whole, and both of its ends are looked at. */
static void huge_log(void **state) {
        struct place *p = *state;
        static const char begin[] = "(00.1) fine\n";
        static const char end[] = "\n(99.9) Error (a.c:1): Some file locks are hold by dumping tasks! You can try\n";
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_free_ char *log = criu_log_path(p->work, CRIU_DUMP), *kept = path_join(p->logs, "huge.log");
        _cleanup_close_ int fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        off_t size = (off_t)17 << 30;
        struct stat st;

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, begin, strlen(begin), 0), strlen(begin));
        assert_int_equal(pwrite(fd, end, strlen(end), size), strlen(end));
        assert_int_equal(criu_fail(p->work, CRIU_DUMP, 256, "huge", 0, &err), -EBUSY);
        assert_non_null(strstr(st_error_message(err), "file locks are held"));
        assert_int_equal(stat(kept, &st), 0);
        assert_true(st.st_size < (20 << 20));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(real_logs),
                cmocka_unit_test(choice),
                cmocka_unit_test(rows_are_sound),
                cmocka_unit_test_setup_teardown(failure_keeps_the_log, place_setup, place_teardown),
                cmocka_unit_test_setup_teardown(failure_without_errors, place_setup, place_teardown),
                cmocka_unit_test_setup_teardown(huge_log, place_setup, place_teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
