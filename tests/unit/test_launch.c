/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/spawn.h"
#include "base/text.h"
#include "supervisor/launch.h"

#define NOBODY 65534
#define OUTPUT_MAX 65536

#define LIST(...) ((char *const[]){ __VA_ARGS__, NULL })
#define TEXT(s) ((char *)(s))

/* --- the settings as bytes --- */

static void pack_and_parse(void **state) {
        (void)state;
        static const struct launch_limit limits[] = { { RLIMIT_NOFILE, 1, 2 }, { RLIMIT_CORE, 0, UINT64_MAX } };
        static const gid_t groups[] = { 4, 4294967294u };
        const struct launch_settings settings = {
                .path = "/a=b/c",
                .argv = LIST(TEXT("c"), TEXT(""), TEXT("a=b\n")),
                .environment = LIST(TEXT("A=1"), TEXT("nonsense"), TEXT("")),
                .directory = "/d",
                .init = true,
                .cgroups = LIST(TEXT("/sys/x"), TEXT("/sys/y")),
                .namespaces = 17,
                .session = true,
                .limits = limits,
                .n_limits = ELEMENTSOF(limits),
                .set_oom = true,
                .oom_score_adj = -17,
                .set_umask = true,
                .umask = 027,
                .set_nice = true,
                .nice = -3,
                .cpus = "0-1,7",
                .set_identity = true,
                .uid = 1000,
                .gid = 100,
                .groups = groups,
                .n_groups = ELEMENTSOF(groups),
        };
        _cleanup_free_ char *data = NULL;
        struct launch_parsed parsed;
        size_t size;

        assert_int_equal(launch_pack(&settings, "/init", &data, &size), 0);
        assert_int_equal(launch_parse(data, size, &parsed), 0);
        assert_string_equal(parsed.settings.path, "/a=b/c");
        assert_string_equal(parsed.settings.argv[2], "a=b\n");
        assert_null(parsed.settings.argv[3]);
        assert_string_equal(parsed.settings.environment[1], "nonsense");
        assert_string_equal(parsed.settings.environment[2], "");
        assert_null(parsed.settings.environment[3]);
        assert_string_equal(parsed.settings.cgroups[1], "/sys/y");
        assert_string_equal(parsed.settings.directory, "/d");
        assert_string_equal(parsed.init_path, "/init");
        assert_int_equal(parsed.settings.namespaces, LAUNCH_NAMESPACES_FD);
        assert_true(parsed.settings.session && !parsed.settings.terminal);
        assert_int_equal(parsed.settings.n_limits, 2);
        assert_memory_equal(parsed.settings.limits, limits, sizeof(limits));
        assert_int_equal(parsed.settings.oom_score_adj, -17);
        assert_int_equal(parsed.settings.umask, 027);
        assert_true(parsed.settings.set_nice && parsed.settings.nice == -3);
        assert_string_equal(parsed.settings.cpus, "0-1,7");
        assert_int_equal(parsed.settings.uid, 1000);
        assert_int_equal(parsed.settings.gid, 100);
        assert_int_equal(parsed.settings.n_groups, 2);
        assert_memory_equal(parsed.settings.groups, groups, sizeof(groups));
        launch_parsed_clear(&parsed);
        /* Cut off anywhere it is refused, or what is left is whole entries. */
        for (size_t n = 0; n < size; n++)
                if (launch_parse(data, n, &parsed) >= 0)
                        launch_parsed_clear(&parsed);
}

static void what_cannot_be_packed(void **state) {
        (void)state;
        char *data;
        size_t size;
        struct launch_settings settings = { .path = "", .argv = LIST(TEXT("x")), .namespaces = -EBADF };
        _cleanup_free_ char *long_text = xcalloc(1, LAUNCH_SIZE_MAX + 1);

        assert_int_equal(launch_pack(&settings, NULL, &data, &size), -EINVAL);
        settings.path = "/x";
        settings.argv = NULL;
        assert_int_equal(launch_pack(&settings, NULL, &data, &size), -EINVAL);
        memset(long_text, 'x', LAUNCH_SIZE_MAX);
        settings.argv = LIST(TEXT("x"), long_text);
        assert_int_equal(launch_pack(&settings, NULL, &data, &size), -E2BIG);
}

static void what_cannot_be_parsed(void **state) {
        (void)state;
#define CASE(text) \
        { text, sizeof(text) }
        static const struct {
                const char *data;
                size_t size;
        } cases[] = {
                CASE("path=/x\0argument=x"),
                CASE("launch=2\0path=/x\0argument=x"),
                CASE("launch=1\0argument=x"),
                CASE("launch=1\0path=/x"),
                CASE("launch=1\0path=\0argument=x"),
                CASE("launch=1\0path=/x\0argument=x\0unknown=1"),
                CASE("launch=1\0path=/x\0argument=x\0no equals"),
                CASE("launch=1\0path=/x\0argument=x\0uid=1"),
                CASE("launch=1\0path=/x\0argument=x\0group=1"),
                CASE("launch=1\0path=/x\0argument=x\0uid=4294967295\0gid=1"),
                CASE("launch=1\0path=/x\0argument=x\0uid=-1\0gid=1"),
                CASE("launch=1\0path=/x\0argument=x\0umask=512"),
                CASE("launch=1\0path=/x\0argument=x\0oom=1001"),
                CASE("launch=1\0path=/x\0argument=x\0nice=20"),
                CASE("launch=1\0path=/x\0argument=x\0limit=1:2"),
                CASE("launch=1\0path=/x\0argument=x\0limit=1:2:x"),
                CASE("launch=1\0path=/x\0argument=x\0"), /* an empty entry */
        };
        struct launch_parsed parsed;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                if (launch_parse(cases[i].data, cases[i].size, &parsed) != -EBADMSG)
                        fail_msg("case %zu was taken", i);
        assert_int_equal(launch_parse("", 0, &parsed), -EBADMSG);
        assert_int_equal(launch_parse("launch=1\0path=/x\0argument=x", 26, &parsed), -EBADMSG); /* no NUL */
        assert_int_equal(launch_parse("launch=1\0path=/x\0argument=x", 28, &parsed), 0);
        launch_parsed_clear(&parsed);
}

/* --- real processes --- */

static pid_t start(const struct launch_settings *settings, const int stdio[3], int *pidfd, struct st_error **err) {
        _cleanup_free_ char *launcher = path_join(getenv("STASIS_BUILD"), "stasis-launch");
        _cleanup_free_ char *init = path_join(getenv("STASIS_BUILD"), "stasis-init");

        return launch_start_by(launcher, settings->init ? init : NULL, settings, stdio, pidfd, err);
}

/* Runs to the end. @return the exit code, with what was printed */
static int run(const struct launch_settings *settings, char **ret_output) {
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_close_ int pidfd = -EBADF;
        _cleanup_fclose_ FILE *f = NULL;
        int ends[2], status;

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        pid_t pid = start(settings, (const int[]){ -EBADF, ends[1], ends[1] }, &pidfd, &err);
        close(ends[1]);
        if (pid < 0)
                fail_msg("%s", st_error_message(err));
        assert_true(pidfd >= 0);
        f = fdopen(ends[0], "re");
        char *output = xcalloc(1, OUTPUT_MAX);
        size_t n = fread(output, 1, OUTPUT_MAX - 1, f);
        output[n] = '\0';
        *ret_output = output;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return spawn_exit_code(status);
}

static struct launch_settings shell(const char *script) {
        static char *argv[] = { (char *)"sh", (char *)"-c", NULL, NULL };
        static char *environment[] = { (char *)"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", (char *)"A=1",
                                       NULL };

        argv[2] = (char *)script;
        return (struct launch_settings){
                .path = "/bin/sh", .argv = argv, .environment = environment, .namespaces = -EBADF, .session = true
        };
}

static void clean_surroundings(void **state) {
        (void)state;
        _cleanup_free_ char *output = NULL;
        struct launch_settings settings = shell("echo $PWD $A; readlink /proc/self/fd/0; "
                                                "grep -E '^Sig(Blk|Ign)' /proc/self/status; "
                                                "cut -d' ' -f6 /proc/$$/stat | grep -qx $$ && echo leader; "
                                                "exec ls /proc/self/fd");
        sigset_t set, before;
        int leak = open("/dev/zero", O_RDONLY); /* deliberately without O_CLOEXEC */

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, &before);
        (void)signal(SIGPIPE, SIG_IGN);
        settings.directory = "/usr";
        assert_int_equal(run(&settings, &output), 0);
        (void)signal(SIGPIPE, SIG_DFL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        close(leak);
        assert_string_equal(output, "/usr 1\n/dev/null\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nleader\n"
                                    "0\n1\n2\n3\n"); /* 3 is what ls itself reads */
}

static void identity_and_limits(void **state) {
        (void)state;
        static const struct launch_limit limits[] = { { RLIMIT_NOFILE, 100, 200 }, { RLIMIT_CORE, 0, 0 } };
        static const gid_t groups[] = { 7, 9 };
        _cleanup_free_ char *output = NULL;
        struct launch_settings settings = shell("id -u; id -g; id -G; umask; ulimit -Sn; ulimit -Hn; ulimit -c; "
                                                "grep CapEff /proc/self/status; cat /proc/self/oom_score_adj; "
                                                "echo opened >/dev/stdout");

        if (geteuid() != 0)
                skip();
        settings.set_identity = true;
        settings.uid = settings.gid = NOBODY;
        settings.groups = groups;
        settings.n_groups = ELEMENTSOF(groups);
        settings.set_umask = true;
        settings.umask = 077;
        settings.limits = limits;
        settings.n_limits = ELEMENTSOF(limits);
        settings.set_oom = true;
        settings.oom_score_adj = 500;
        assert_int_equal(run(&settings, &output), 0);
        assert_string_equal(output,
                            "65534\n65534\n65534 7 9\n0077\n100\n200\n0\nCapEff:\t0000000000000000\n500\nopened\n");
}

static void scheduling(void **state) {
        (void)state;
        _cleanup_free_ char *output = NULL;
        struct launch_settings settings = shell("nice; grep Cpus_allowed_list /proc/self/status");

        settings.set_nice = true;
        settings.nice = 7;
        settings.cpus = "0";
        assert_int_equal(run(&settings, &output), 0);
        assert_string_equal(output, "7\nCpus_allowed_list:\t0\n");

        /* What cannot be is a warning. */
        free(output);
        settings.cpus = "3-1";
        assert_int_equal(run(&settings, &output), 0);
        assert_int_equal(strncmp(output, "7\n", 2), 0);
}

static void limit_that_is_too_high(void **state) {
        (void)state;
        struct rlimit ours;
        _cleanup_free_ char *output = NULL;
        struct launch_settings settings = shell("ulimit -Hn");

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &ours), 0);
        /* More than the kernel gives anybody: cut to what we have, with a warning. */
        const struct launch_limit limit = { RLIMIT_NOFILE, 1024, RLIM_INFINITY };
        _cleanup_free_ char *expected = xasprintf("%llu\n", (unsigned long long)ours.rlim_max);
        settings.limits = &limit;
        settings.n_limits = 1;
        assert_int_equal(run(&settings, &output), 0);
        assert_string_equal(output, expected);
}

static void wrong_commands(void **state) {
        (void)state;
        char top[] = "/tmp/launch-XXXXXX";
        static const struct {
                const char *name, *content;
                mode_t mode;
                int number;
                const char *message; /* %s: the path */
        } cases[] = {
                { "missing", NULL, 0, ENOENT, "cannot run %s: No such file or directory" },
                { "directory", NULL, 0755, EISDIR, "cannot run %s: it is a directory" },
                { "fifo", NULL, 0777, EACCES, "cannot run %s: it is not a regular file" },
                { "plain", "#!/bin/sh\n", 0644, EACCES, "cannot run %s: it is not executable (hint: chmod +x %s)" },
                { "interpreter", "#! /nowhere/python -x\n", 0755, ENOENT,
                  "cannot run %s: its interpreter /nowhere/python: No such file or directory" },
                { "text", "hello\n", 0755, ENOEXEC,
                  "cannot run %s: it is neither a program for this machine nor a script (hint: the first line of a "
                  "script names its interpreter: #!/bin/sh)" },
        };

        assert_non_null(mkdtemp(top));
        for (int init = 0; init < 2; init++)
                for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                        _cleanup_error_ struct st_error *err = NULL;
                        _cleanup_free_ char *path = path_join(top, cases[i].name);
                        _cleanup_free_ char *expected = xasprintf(cases[i].message, path, path);
                        struct launch_settings settings = shell("");

                        (void)io_remove_tree(path);
                        if (streq(cases[i].name, "directory"))
                                assert_int_equal(mkdir(path, cases[i].mode), 0);
                        else if (streq(cases[i].name, "fifo"))
                                assert_int_equal(mkfifo(path, cases[i].mode), 0);
                        else if (cases[i].content)
                                assert_int_equal(io_replace_file(path, cases[i].content, strlen(cases[i].content),
                                                                 cases[i].mode, false),
                                                 0);
                        settings.path = path;
                        settings.init = init;
                        assert_int_equal(start(&settings, (const int[]){ -EBADF, -EBADF, -EBADF }, NULL, &err),
                                         -cases[i].number);
                        assert_string_equal(st_error_message(err), expected);
                        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
                }
        (void)io_remove_tree(top);
}

static void wrong_for_the_user(void **state) {
        (void)state;
        char top[] = "/tmp/launch-XXXXXX";
        _cleanup_error_ struct st_error *err = NULL, *second = NULL;
        struct launch_settings settings = shell("");

        if (geteuid() != 0)
                skip();
        assert_non_null(mkdtemp(top)); /* 0700 of root */
        _cleanup_free_ char *path = path_join(top, "program");
        assert_int_equal(io_replace_file(path, "#!/bin/sh\n", 10, 0755, false), 0);
        settings.set_identity = true;
        settings.uid = settings.gid = NOBODY;
        settings.path = path;
        assert_int_equal(start(&settings, (const int[]){ -EBADF, -EBADF, -EBADF }, NULL, &err), -EACCES);
        _cleanup_free_ char *expected = xasprintf("cannot run %s as user 65534: Permission denied", path);
        assert_string_equal(st_error_message(err), expected);

        settings.path = "/bin/sh";
        settings.directory = top;
        assert_int_equal(start(&settings, (const int[]){ -EBADF, -EBADF, -EBADF }, NULL, &second), -EACCES);
        _cleanup_free_ char *directory =
                xasprintf("cannot run /bin/sh: cannot enter the directory %s as user 65534: Permission denied", top);
        assert_string_equal(st_error_message(second), directory);
        (void)io_remove_tree(top);
}

static void cgroup_that_is_not_there(void **state) {
        (void)state;
        _cleanup_free_ char *output = NULL;
        struct launch_settings settings = shell("echo goes on");

        settings.cgroups = LIST(TEXT("/nowhere/cgroup"));
        assert_int_equal(run(&settings, &output), 0);
        assert_string_equal(output, "goes on\n");
}

/* A process in namespaces of its own; init of a PID namespace. */
static pid_t start_elsewhere(void) {
        int ends[2];
        char byte;

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        pid_t pid =
                (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | SIGCHLD, NULL, NULL, NULL, 0);
        if (pid == 0) {
                (void)!sethostname("elsewhere", 9);
                (void)!write(ends[1], "x", 1);
                for (;;)
                        pause();
        }
        close(ends[1]);
        assert_int_equal(pid > 0 ? read(ends[0], &byte, 1) : 1, 1);
        close(ends[0]);
        return pid;
}

static void namespaces_of_another(void **state) {
        (void)state;
        _cleanup_close_ int pidfd = -EBADF;
        _cleanup_free_ char *output = NULL;
        struct launch_settings settings = shell("hostname; echo $$; exit 6");
        pid_t pid = geteuid() == 0 ? start_elsewhere() : -1;

        if (pid < 0)
                skip();
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        assert_true(pidfd >= 0);
        settings.namespaces = pidfd;
        int code = run(&settings, &output); /* our child, although it is in another PID namespace */
        (void)kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(code, 6);
        assert_string_equal(output, "elsewhere\n2\n");
}

static void under_init(void **state) {
        (void)state;
        _cleanup_free_ char *output = NULL;
        struct launch_settings settings = shell("cat /proc/$PPID/comm; tr '\\0' ' ' </proc/$$/cmdline | cut -c1-5; "
                                                "ls /proc/$PPID/fd; (sleep 0.2; echo orphan) & exit 4");

        settings.init = true;
        assert_int_equal(run(&settings, &output), 4);
        assert_string_equal(output, "stasis-init\nsh -c\n0\n1\n2\norphan\n");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(pack_and_parse),         cmocka_unit_test(what_cannot_be_packed),
                cmocka_unit_test(what_cannot_be_parsed),  cmocka_unit_test(clean_surroundings),
                cmocka_unit_test(identity_and_limits),    cmocka_unit_test(scheduling),
                cmocka_unit_test(limit_that_is_too_high), cmocka_unit_test(wrong_commands),
                cmocka_unit_test(wrong_for_the_user),     cmocka_unit_test(cgroup_that_is_not_there),
                cmocka_unit_test(namespaces_of_another),  cmocka_unit_test(under_init),
        };

        return cmocka_run_group_tests_name("launch", tests, NULL, NULL);
}
