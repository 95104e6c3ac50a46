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
#include "base/text.h"
#include "criu/digest.h"
#include "criu/log.h"
#include "criu/options_table.h"

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
        { "unix-credentials", EOPNOTSUPP, "credentials waits unread", "has read it" },
        { "pipe-size", EPERM, "cannot have the size that it had: Operation not permitted", "CAP_SYS_RESOURCE" },
        { "vsock", EOPNOTSUPP, "address family 40 is open", "AF_VSOCK" },
        { "io-uring", EOPNOTSUPP, "io_uring", "UV_USE_IO_URING" },
        { "perf-event", EOPNOTSUPP, "the descriptor 3 (anon anon_inode:[perf_event])", "close it" },
        { "device", EOPNOTSUPP, "the descriptor 3 (chr 10:229)", "--external" },
        { "session", EOPNOTSUPP, "session of somebody else", "--shell-job" },
        { "tty", EOPNOTSUPP, "terminal (pts/0)", "--shell-job" },
        { "no-tty", ENOTTY, "needs a terminal", "--shell-job" },
        { "ghost", EFBIG, "the file /srv/app/gh is deleted but open", "{\"ghost_limit\": 3002368}" },
        { "link-remap", EBUSY, "/srv/app/lr was removed", "--link-remap" },
        { "file-locks", EBUSY, "file locks are held", "--file-locks" },
        { "bad-size", ESTALE, "file /srv/app/bs has changed since the checkpoint: its size is 7, it was 3",
          "--files=rollback" },
        { "bad-mode", ESTALE, "it is 0100644, it was 0100755", "skip_file_rwx_check" },
        { "file-missing", ENOENT, "/srv/app/bs of the checkpoint cannot be opened: No such file", "put it back" },
        { "pid-taken", EEXIST, "the PID 14918 is already taken", "ps -p 14918" },
        { "address-in-use", EADDRINUSE, "address of a socket", "ss -ltnup" },
        { "unix-in-use", EADDRINUSE, "name of a UNIX socket", "ss -lxp" },
        { "dead", ESRCH, "14947 does not exist any more", "'ps' shows" },
        { "kernel-thread", EPERM, "process 2 cannot be traced", "/proc/2/status" },
        { "traced", EPERM, "14991 cannot be traced", "TracerPid" },
        { "frozen", EBUSY, "24245 does not stop (state D)", "freeze_cgroup" },
        { "no-freezer", ENOENT, "names no cgroup", "/sys/fs/cgroup" },
        { "iptables", ENOPKG, "could not lock the network", "network_lock" },
        { "iptables-restore", ENOPKG, "iptables-restore", "network_lock" },
        { "mount", EOPNOTSUPP, "the descriptor 0 (/dev/null) is on a mount", "nsenter" },
        { "nested-pidns", EOPNOTSUPP, "in a pid namespace of their own", "by its own PID" },
        { "stream-closed", EPIPE, "stream of images was closed", "stasis itself" },
        { "no-streamer", ECONNREFUSED, "could not connect to the image stream", "--stream needs" },
        { "serve-closed", EPIPE, "stream of images was closed", "stasis itself" },
        { "pages-cut", EBADMSG, "memory pages of the checkpoint are cut off", "verify" },
        { "image-cut", EBADMSG, "image of the checkpoint is cut off", "verify" },
        { "bad-magic", EBADMSG, "image core-23957.img of the checkpoint is damaged", "verify" },
        { "garbage", EBADMSG, "is damaged", "verify" },
        { "no-inventory", EBADMSG, "an image of the checkpoint is missing", "verify" },
        { "hook", ECANCELED, "the hook /bin/false said no", "stasis itself" },
        { "lsm", EOPNOTSUPP, "a profile of apparmor", "lsm_profile" },
        { "unprivileged", EPERM, "CAP_SYS_ADMIN", "root" },
        { "usage", EIO, "Invalid value for --network-lock: foo", NULL },
        { "no-lazy-server", ECONNREFUSED, "server of memory pages", "criu lazy-pages" },
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
        expect("(00.1) Error (criu/mount.c:1392): mnt: BUG at criu/mount.c:1392\n",
               "CRIU gave up on the tree of mounts: something that it takes for granted does not hold "
               "(criu/mount.c:1392)",
               "unmount in that namespace what the process does not need, mounts upon mounts first; at a restore try "
               "--criu-opts '{\"mntns_compat_mode\": true}'; report it to CRIU with /proc/PID/mountinfo");
        expect("(00.1) argv: CRIU needs to have the CAP_SYS_ADMIN\n", NULL, NULL);
        /* A captured text may hold what looks like a template, or a terminal's control sequence. */
        expect("(00.1) Error (a.c:1): Can't open file a$1\x1b[31m on restore: b\n",
               "the file /a$1?[31m of the checkpoint cannot be opened: b", "put it back before the restore");
}

/* Calls for each row, in the order in which they are searched. */
static void each_row(void (*call)(const struct digest_row *row)) {
        size_t n;
        const struct digest_theme *const *themes = digest_themes(&n);

        for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < themes[i]->n; j++)
                        call(&themes[i]->rows[j]);
}

static size_t count(const char *text, char wanted) {
        size_t n = 0;

        for (; text && *text; text++)
                n += *text == wanted;
        return n;
}

/* What a template refers to must be captured by each of its patterns, and have a name in the document. */
static void template_is_sound(const struct digest_row *row, const char *template) {
        for (const char *c = template; c && *c; c++) {
                size_t i = *c == '$' ? (size_t)(c[1] - '0') : 0;

                if (*c != '$')
                        continue;
                for (size_t p = 0; p < DIGEST_PATTERNS && row->patterns[p]; p++)
                        if (i < 1 || i > DIGEST_CAPTURES || i > count(row->patterns[p], '*'))
                                fail_msg("%s: $%c is not captured", row->patterns[p], c[1]);
                if (!row->names || i > count(row->names, ' ') + 1)
                        fail_msg("%s: $%c has no name", row->patterns[0], c[1]);
        }
}

/* Each option of CRIU that a hint names must exist: what stands before '":' in its JSON. */
static void options_exist(const char *hint) {
        for (const char *end = hint ? strstr(hint, "\":") : NULL; end; end = strstr(end + 1, "\":")) {
                const char *begin = end;

                while (begin > hint && begin[-1] != '"')
                        begin--;
                _cleanup_free_ char *field = xstrndup(begin, (size_t)(end - begin));
                const struct criu_option *option = criu_option_find(field);
                if (!option || option->kind == CRIU_REFUSED || option->kind == CRIU_LEFT_OUT)
                        fail_msg("%s: no option %s", hint, field);
        }
}

static void row_is_sound(const struct digest_row *row) {
        const char *const texts[] = { row->cause, row->hint, row->more };
        const char *name = row->patterns[0];

        assert_non_null(name);
        assert_in_range(row->rank, 0, DIGEST_CAUSE);
        assert_in_range(row->phase, 0, DIGEST_BOTH);
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                template_is_sound(row, texts[i]);
                if (texts[i] && (isempty(texts[i]) || strchr(texts[i], '\n')))
                        fail_msg("%s: not a line: %s", name, texts[i]);
        }
        options_exist(row->hint);
        /* What is told to the user is a cause, and always with what can be done. */
        if ((row->rank ?: DIGEST_CAUSE) == DIGEST_CAUSE && (!row->id || !row->title || !row->hint))
                fail_msg("%s lacks id, title or hint", name);
        if (!row->id)
                return;
        assert_true(row->rank != DIGEST_HARMLESS && row->rank != DIGEST_TAIL);
        assert_int_equal(strspn(row->id, "abcdefghijklmnopqrstuvwxyz0123456789-"), strlen(row->id));
        if (digest_find(row->id) != row)
                fail_msg("%s: the id %s is there twice", name, row->id);
}

static void rows_are_sound(void **state) {
        (void)state;
        each_row(row_is_sound);
}

static struct {
        const struct digest_row *rows[1000];
        size_t n;
} earlier;

/* A row before must not take what this one is for. */
static void row_is_reached(const struct digest_row *row) {
        for (size_t i = 0; i < earlier.n; i++)
                for (size_t p = 0; p < DIGEST_PATTERNS && earlier.rows[i]->patterns[p]; p++)
                        for (size_t q = 0; q < DIGEST_PATTERNS && row->patterns[q]; q++)
                                if (earlier.rows[i]->line == row->line && !strchr(earlier.rows[i]->patterns[p], '*') &&
                                    strstr(row->patterns[q], earlier.rows[i]->patterns[p]))
                                        fail_msg("%s hides %s", earlier.rows[i]->patterns[p], row->patterns[q]);
        assert_true(earlier.n < ELEMENTSOF(earlier.rows));
        earlier.rows[earlier.n++] = row;
}

/* Each pattern, its stars filled in, leads to its own row. */
static void pattern_finds_row(const struct digest_row *row) {
        for (size_t p = 0; p < DIGEST_PATTERNS && row->patterns[p]; p++) {
                _cleanup_(digest_report_clear) struct digest_report report = { 0 };
                _cleanup_free_ char *message = xstrdup(row->patterns[p]), *log = NULL;

                for (char *c = message; *c; c++)
                        *c = *c == '*' ? '7' : *c;
                log = xasprintf("%s%s\n",
                                row->line == DIGEST_PLAIN     ? ""
                                : row->line == DIGEST_WARNING ? "Warn  (a.c:1): "
                                                              : "(00.1) Error (a.c:1): ",
                                message);
                digest_report(log, &report);
                if (report.n != 1 || report.findings[0].row != row)
                        fail_msg("%s is taken for %s", row->patterns[p],
                                 report.n == 1 && report.findings[0].row ? report.findings[0].row->patterns[0]
                                                                         : "none");
        }
}

static void rows_are_reached(void **state) {
        (void)state;
        earlier.n = 0;
        each_row(row_is_reached);
        each_row(pattern_finds_row);
}

static void reports(void **state) {
        _cleanup_(digest_report_clear) struct digest_report none = { 0 }, whole = { 0 }, many = { 0 };
        _cleanup_free_ char *good = load("success-dump"), *text = xstrdup("");

        (void)state;
        digest_report(good, &none);
        assert_true(none.is_log && none.succeeded);
        assert_null(none.cause);

        digest_report("out\n"
                      "(00.1) Error (a.c:1): Can't setup RLIMIT_NOFILE for self: Operation not permitted\n"
                      "(00.1)   7: Error (a.c:1): Unable to open fd=3 id=0x19\n"
                      "(00.1)   7: Error (a.c:1): Can't fork for 77: File exists\n"
                      "\n[12 bytes left out]\n"
                      "(00.1) Error (a.c:1): something new\n",
                      &whole);
        assert_true(whole.is_log && !whole.succeeded);
        assert_int_equal(whole.n, 4);
        assert_ptr_equal(whole.cause, &whole.findings[2]);
        assert_string_equal(whole.cause->row->id, "pid-taken");
        assert_int_equal(whole.cause->line, 4);
        assert_string_equal(whole.cause->text, "(00.1)   7: Error (a.c:1): Can't fork for 77: File exists");
        assert_non_null(strstr(whole.cause->hint, "ps -p 77"));
        assert_int_equal(whole.cause->number, EEXIST);
        assert_int_equal(whole.findings[0].rank, DIGEST_HARMLESS);
        assert_non_null(whole.findings[0].more);
        assert_int_equal(whole.findings[3].line, 0);
        assert_null(whole.findings[3].row);

        /* Of very many the cause is kept. */
        for (int i = 0; i < 3000; i++) {
                _cleanup_free_ char *longer = xasprintf("%s(00.1) Error (a.c:1): prlimit: Operation not permitted\n",
                                                        i % 100 == 0 ? text : "");
                if (i % 100 == 0) {
                        free(text);
                        text = TAKE_PTR(longer);
                } else {
                        _cleanup_free_ char *joined = xasprintf("%s%s", text, longer);
                        free(text);
                        text = TAKE_PTR(joined);
                }
        }
        _cleanup_free_ char *last = xasprintf("%s(00.1) Error (a.c:1): Can't fork for 5: File exists\n", text);
        digest_report(last, &many);
        assert_non_null(many.cause);
        assert_int_equal(many.cause->line, 3001);
}

/* docs/troubleshooting.md is what the table says: scripts/generate-docs writes it. */
static void document_is_current(void **state) {
        const char *source = getenv("STASIS_SOURCE");
        _cleanup_free_ char *path = xasprintf("%s/docs/troubleshooting.md", source ? source : "../..");
        _cleanup_free_ char *committed = NULL, *made = NULL;
        size_t size, made_size;
        FILE *file = open_memstream(&made, &made_size);

        (void)state;
        assert_non_null(file);
        assert_int_equal(digest_document(file), 0);
        fclose(file);
        assert_int_equal(io_read_file(AT_FDCWD, path, 1 << 20, &committed, &size), 0);
        if (strcmp(committed, made) != 0)
                fail_msg("docs/troubleshooting.md differs from the table: run scripts/generate-docs");
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
                assert_int_equal(criu_fail(p->work, CRIU_DUMP, 256, "op7", 0, 10, &err), -EOPNOTSUPP);
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
        assert_int_equal(criu_fail(p->work, CRIU_RESTORE, 9, "x", ETIMEDOUT, 10, &none), -ETIMEDOUT);
        assert_non_null(strstr(st_error_message(none), "could not restore process tree: it was killed by SIGKILL"));
        assert_non_null(strstr(st_error_message(none), "left no log"));
        assert_null(strstr(st_error_message(none), "log: "));

        /* A log without an error, and a name that is a path: the log stays where it is. */
        put_log(p, CRIU_RESTORE, "(00.1) fine\n", 12);
        assert_int_equal(criu_fail(p->work, CRIU_RESTORE, 3 << 8, "../x", -ESRCH, 10, &empty), -ESRCH);
        assert_non_null(strstr(st_error_message(empty), "exited with code 3"));
        assert_null(strstr(st_error_message(empty), "log: "));
        _cleanup_free_ char *log = criu_log_path(p->work, CRIU_RESTORE);
        assert_int_equal(access(log, F_OK), 0);

        /* A root cause on our side stays the innermost, and the number its own. */
        st_error_set(&own, ENOSPC, "the disk is full");
        assert_int_equal(criu_fail(p->work, CRIU_RESTORE, 256, "x", 0, 10, &own), -ENOSPC);
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
        assert_int_equal(criu_fail(p->work, CRIU_DUMP, 256, "huge", 0, 10, &err), -EBUSY);
        assert_non_null(strstr(st_error_message(err), "file locks are held"));
        assert_int_equal(stat(kept, &st), 0);
        assert_true(st.st_size < (20 << 20));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(real_logs),
                cmocka_unit_test(choice),
                cmocka_unit_test(rows_are_sound),
                cmocka_unit_test(rows_are_reached),
                cmocka_unit_test(reports),
                cmocka_unit_test(document_is_current),
                cmocka_unit_test_setup_teardown(failure_keeps_the_log, place_setup, place_teardown),
                cmocka_unit_test_setup_teardown(failure_without_errors, place_setup, place_teardown),
                cmocka_unit_test_setup_teardown(huge_log, place_setup, place_teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
