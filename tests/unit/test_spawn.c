/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "base/text.h"

#define SHELL(script) ((char *const[]){ (char *)"sh", (char *)"-c", (char *)(script), NULL })

/* Runs a shell script as told and takes its output. */
static int run(struct spawn spawn, const char *script, char **ret_output) {
        _cleanup_error_ struct st_error *err = NULL;

        spawn.path = "sh";
        spawn.argv = SHELL(script);
        int r = spawn_run(&spawn, 10000, ret_output, &err);
        if (err)
                print_error("%s\n", st_error_message(err));
        return r;
}

static void output_and_exit_code(void **state) {
        (void)state;
        _cleanup_free_ char *output = NULL, *killed = NULL;

        assert_int_equal(run((struct spawn){ 0 }, "echo out; echo err >&2; exit 3", &output), 3);
        assert_string_equal(output, "out\nerr\n");
        assert_int_equal(run((struct spawn){ 0 }, "kill -TERM $$", &killed), 128 + SIGTERM);
        assert_string_equal(killed, "");
        assert_int_equal(run((struct spawn){ 0 }, "exit 0", NULL), 0);
}

static void long_output_is_cut(void **state) {
        (void)state;
        _cleanup_free_ char *output = NULL;

        assert_int_equal(run((struct spawn){ 0 }, "head -c 3000000 /dev/zero | tr '\\0' x", &output), 0);
        assert_int_equal(strlen(output), 1024 * 1024);
}

static int count_fds(void) {
        int n = 0;
        for (int fd = 0; fd < 1024; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void missing_program_is_an_error_here(void **state) {
        (void)state;
        static const struct spawn_fd bad_fd = { .fd = 999, .number = 5 };
        static const struct {
                struct spawn spawn;
                int number;
                const char *message;
        } cases[] = {
                { { .path = "/nowhere/x" }, ENOENT, "cannot start /nowhere/x: No such file or directory" },
                { { .path = "/etc/passwd" }, EACCES, "cannot start /etc/passwd: Permission denied" },
                { { .path = "no-such-program-at-all" },
                  ENOENT,
                  "cannot start no-such-program-at-all: no such program in PATH" },
                { { .path = "/bin/sh", .directory = "/nowhere" },
                  ENOENT,
                  "cannot start /bin/sh: cannot enter directory /nowhere: No such file or directory" },
                { { .path = "/bin/sh", .fds = &bad_fd, .n_fds = 1 },
                  EBADF,
                  "cannot start /bin/sh: cannot pass its descriptors: Bad file descriptor" },
        };
        int fds = count_fds();

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_error_ struct st_error *err = NULL;
                struct spawn spawn = cases[i].spawn;
                int pidfd = -EBADF;

                spawn.argv = SHELL("exit 0");
                assert_int_equal(spawn_start(&spawn, &pidfd, &err), -cases[i].number);
                assert_string_equal(st_error_message(err), cases[i].message);
                assert_int_equal(pidfd, -EBADF);
        }
        assert_int_equal(count_fds(), fds);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
        assert_int_equal(errno, ECHILD);
}

static void nothing_else_is_inherited(void **state) {
        (void)state;
        _cleanup_free_ char *output = NULL;
        int leak = open("/dev/zero", O_RDONLY); /* deliberately without O_CLOEXEC */

        /* 3 is the directory that ls itself reads. */
        assert_int_equal(
                run((struct spawn){ 0 }, "readlink /proc/self/fd/0; ls -1 /proc/self/fd | tr '\\n' ' '", &output), 0);
        assert_string_equal(output, "/dev/null\n0 1 2 3 ");
        close(leak);
}

static void descriptors_are_renumbered_without_clobbering(void **state) {
        (void)state;
        _cleanup_free_ char *output = NULL;
        int a = io_memfd("a", "A", 1), b = io_memfd("b", "B", 1), c = io_memfd("c", "C", 1);

        /* Each source has the number that another one is to get; c keeps its own, close-on-exec or not. */
        const struct spawn_fd fds[] = {
                { .fd = a, .number = b }, { .fd = b, .number = a },       { .fd = c, .number = c },
                { .fd = a, .number = 0 }, { .fd = -EBADF, .number = 60 }, { .fd = b, .number = 70 },
        };
        assert_true(a < b && b < c && c < 60);
        /* The shell counts its descriptors, and the directory in which it reads them. */
        _cleanup_free_ char *script = xasprintf("cat; for n in %d %d %d 70; do printf ' '; cat /proc/self/fd/$n; done;"
                                                "printf ' '; readlink /proc/self/fd/60;"
                                                "set -- /proc/$$/fd/*; echo $#",
                                                a, b, c);
        assert_int_equal(run((struct spawn){ .fds = fds, .n_fds = ELEMENTSOF(fds) }, script, &output), 0);
        assert_string_equal(output, "A B A C B /dev/null\n9\n");
        close(a);
        close(b);
        close(c);
}

static void own_stdio_may_be_kept(void **state) {
        (void)state;
        char buffer[64] = "";
        _cleanup_close_ int memfd = io_memfd("stdout", "", 0);
        int saved = fcntl(1, F_DUPFD_CLOEXEC, 3);

        dup2(memfd, 1);
        int r = run((struct spawn){ .inherit_stdio = true }, "echo here; ls /proc/$$/fd | tr '\\n' ' '", NULL);
        dup2(saved, 1);
        close(saved);
        assert_int_equal(r, 0);
        assert_true(pread(memfd, buffer, sizeof(buffer) - 1, 0) > 0);
        assert_non_null(text_after(buffer, "here\n0 1 2 "));
}

static void signals_are_reset(void **state) {
        (void)state;
        _cleanup_free_ char *output = NULL, *ignoring = NULL;
        static const char script[] = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigaddset(&set, SIGCHLD);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGRTMIN + 1, SIG_IGN);
        assert_int_equal(run((struct spawn){ 0 }, script, &output), 0);
        assert_string_equal(output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");

        assert_int_equal(run((struct spawn){ .ignore_interrupts = true }, script, &ignoring), 0);
        /* SIGHUP 1, SIGINT 2, SIGQUIT 3, SIGTSTP 20 */
        assert_string_equal(ignoring, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000080007\n");

        struct sigaction now;
        sigset_t mask;
        assert_int_equal(sigaction(SIGPIPE, NULL, &now), 0); /* ours stay as they were */
        assert_ptr_equal(now.sa_handler, SIG_IGN);
        pthread_sigmask(SIG_SETMASK, NULL, &mask);
        assert_true(sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGTERM));
        signal(SIGPIPE, SIG_DFL);
        signal(SIGRTMIN + 1, SIG_DFL);
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void session_directory_and_environment(void **state) {
        (void)state;
        _cleanup_free_ char *output = NULL;
        char *environment[] = { (char *)"ONLY=this", (char *)"PATH=/usr/bin:/bin", NULL };
        struct spawn spawn = { .new_session = true, .directory = "/usr", .environment = environment };

        assert_int_equal(
                run(spawn, "pwd; echo $ONLY$HOME; cut -d' ' -f6 /proc/$$/stat | grep -qx $$ && echo leader", &output),
                0);
        assert_string_equal(output, "/usr\nthis\nleader\n");
}

static void *spawn_and_end(void *argument) {
        struct spawn spawn = { .path = "sh", .argv = SHELL("sleep 30"), .parent_death_signal = SIGKILL };

        *(pid_t *)argument = spawn_start(&spawn, NULL, NULL);
        return NULL;
}

static void child_dies_with_its_thread(void **state) {
        (void)state;
        pthread_t thread;
        pid_t pid = 0;
        int status = 0;

        assert_int_equal(pthread_create(&thread, NULL, spawn_and_end, &pid), 0);
        pthread_join(thread, NULL);
        assert_true(pid > 0);
        assert_true(spawn_wait(pid, &status) >= 0);
        assert_int_equal(spawn_exit_code(status), 128 + SIGKILL);
}

static void pidfd_tells_the_end(void **state) {
        (void)state;
        struct spawn spawn = { .path = "/bin/sh", .argv = SHELL("exit 7") };
        int pidfd = -EBADF, status;

        pid_t pid = spawn_start(&spawn, &pidfd, NULL);
        assert_true(pid > 0 && pidfd >= 0);
        assert_int_equal(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
        struct pollfd p = { .fd = pidfd, .events = POLLIN };
        assert_int_equal(poll(&p, 1, 10000), 1);
        assert_int_equal(spawn_wait(pid, &status), 7 << 8);
        assert_int_equal(spawn_exit_code(status), 7);
        assert_int_equal(spawn_wait(pid, NULL), -ECHILD);
        close(pidfd);
}

static int64_t now_ms(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void time_outs_kill(void **state) {
        (void)state;
        static const char *const scripts[] = { "sleep 30", "yes" /* prints faster than anybody reads */ };

        for (size_t i = 0; i < ELEMENTSOF(scripts); i++) {
                _cleanup_error_ struct st_error *err = NULL;
                struct spawn spawn = { .path = "sh", .argv = SHELL(scripts[i]), .new_session = true };
                char *output = NULL;
                int64_t before = now_ms();

                assert_int_equal(spawn_run(&spawn, 100, &output, &err), -ETIMEDOUT);
                assert_null(output);
                assert_string_equal(st_error_message(err), "sh did not end within 100 ms");
                assert_in_range(now_ms() - before, 99, 5000);
        }
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void output_ends_with_the_child(void **state) {
        (void)state;
        _cleanup_free_ char *output = NULL;
        int64_t before = now_ms();

        /* A grandchild keeps the pipe open. */
        assert_int_equal(run((struct spawn){ 0 }, "echo first; sleep 3 & exit 5", &output), 5);
        assert_string_equal(output, "first\n");
        assert_true(now_ms() - before < 2500);
}

static void status_descriptions(void **state) {
        (void)state;
        static const struct {
                const char *text;
                int status;
                int code;
        } cases[] = {
                { "exited with code 3", 3 << 8, 3 },   { "killed by SIGSEGV (core dumped)", SIGSEGV | 0x80, 139 },
                { "killed by SIGTERM", SIGTERM, 143 }, { "stopped by SIGSTOP", SIGSTOP << 8 | 0x7f, SIGSTOP },
                { "killed by signal 40", 40, 168 },
        };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *text = spawn_describe_status(cases[i].status);
                assert_string_equal(text, cases[i].text);
                assert_int_equal(spawn_exit_code(cases[i].status), cases[i].code);
        }
}

static void *spawn_often(void *argument) {
        int *failures = argument;

        for (int i = 0; i < 25; i++) {
                _cleanup_free_ char *output = NULL;
                struct spawn spawn = { .path = "sh", .argv = SHELL("echo $$") };
                if (spawn_run(&spawn, 10000, &output, NULL) != 0 || isempty(output))
                        (*failures)++;
        }
        return NULL;
}

static void threads_may_spawn_at_once(void **state) {
        (void)state;
        pthread_t threads[4];
        int failures[4] = { 0 };

        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                assert_int_equal(pthread_create(&threads[i], NULL, spawn_often, &failures[i]), 0);
        for (size_t i = 0; i < ELEMENTSOF(threads); i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(failures[i], 0);
        }
}

static void pass_by(int number) {
        (void)number;
}

/* In a group of its own that is sent signals all the time: children in sessions of their own must not get one. */
static int spawn_under_fire(void) {
        int failures = 0;
        pid_t group;

        (void)setpgid(0, 0);
        group = getpid();
        (void)signal(SIGTERM, pass_by);
        pid_t sender = fork();
        if (sender == 0) {
                for (;;)
                        (void)kill(-group, SIGTERM);
        }
        for (int i = 0; i < 100; i++)
                if (run((struct spawn){ .new_session = true }, "exit 0", NULL) != 0)
                        failures++;
        (void)kill(sender, SIGKILL);
        return failures;
}

static void a_session_of_its_own_gets_no_signal_of_the_group(void **state) {
        (void)state;
        int status = -1;
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0)
                _exit(spawn_under_fire());
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(output_and_exit_code),
                cmocka_unit_test(long_output_is_cut),
                cmocka_unit_test(missing_program_is_an_error_here),
                cmocka_unit_test(nothing_else_is_inherited),
                cmocka_unit_test(descriptors_are_renumbered_without_clobbering),
                cmocka_unit_test(own_stdio_may_be_kept),
                cmocka_unit_test(signals_are_reset),
                cmocka_unit_test(session_directory_and_environment),
                cmocka_unit_test(child_dies_with_its_thread),
                cmocka_unit_test(pidfd_tells_the_end),
                cmocka_unit_test(time_outs_kill),
                cmocka_unit_test(output_ends_with_the_child),
                cmocka_unit_test(status_descriptions),
                cmocka_unit_test(threads_may_spawn_at_once),
                cmocka_unit_test(a_session_of_its_own_gets_no_signal_of_the_group),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
