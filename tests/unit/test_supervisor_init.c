/* SPDX-License-Identifier: Apache-2.0 */

/* stasis-init, as the real program it is: it outlives what it adopts, passes signals on, ends as its command did. */

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/spawn.h"
#include "base/text.h"

struct run {
        pid_t pid;
        FILE *output;
};

static void start(struct run *run, const char *const *words) {
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_free_ char *program = path_join(getenv("STASIS_BUILD"), "stasis-init");
        _cleanup_strv_ struct strv argv = { 0 };
        int ends[2];

        strv_add(&argv, "stasis-init");
        for (; *words; words++)
                strv_add(&argv, *words);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        const struct spawn_fd fds[] = { { ends[1], STDOUT_FILENO }, { ends[1], STDERR_FILENO } };
        run->pid = spawn_start(
                &(struct spawn){ .path = program, .argv = argv.items, .fds = fds, .n_fds = 2, .new_session = true },
                NULL, &err);
        if (run->pid < 0)
                fail_msg("%s", st_error_message(err));
        close(ends[1]);
        run->output = fdopen(ends[0], "re");
        assert_non_null(run->output);
}

static void start_shell(struct run *run, const char *script) {
        start(run, (const char *const[]){ "--", "/bin/sh", "-c", script, NULL });
}

static void expect(struct run *run, const char *line) {
        char text[256] = "";

        assert_non_null(fgets(text, sizeof(text), run->output));
        assert_string_equal(text, line);
}

/* @return the wait status, after all output was as told */
static int end(struct run *run, const char *rest) {
        char text[1024] = "";
        int status;

        size_t n = fread(text, 1, sizeof(text) - 1, run->output);
        text[n] = '\0';
        assert_string_equal(text, rest);
        (void)fclose(run->output);
        assert_int_equal(waitpid(run->pid, &status, 0), run->pid);
        return status;
}

static void exit_code(void **state) {
        (void)state;
        struct run run;

        start_shell(&run, "exit 42");
        int status = end(&run, "");
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 42);
}

static void killed_by_a_signal(void **state) {
        (void)state;
        static const int numbers[] = { SIGTERM, SIGKILL, SIGSEGV, SIGUSR1, SIGABRT };

        for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
                _cleanup_free_ char *script = xasprintf("ulimit -c 0; kill -%d $$", numbers[i]);
                struct run run;

                start_shell(&run, script);
                int status = end(&run, "");
                assert_true(WIFSIGNALED(status));
                assert_int_equal(WTERMSIG(status), numbers[i]);
        }
}

static void waits_for_what_forked_twice(void **state) {
        (void)state;
        struct run run;

        /* The daemon leaves session, group and parent behind; its new parent is ours. */
        start_shell(&run, "(setsid sh -c 'sleep 0.3; cat /proc/$PPID/comm; echo daemon' &) ; echo command; exit 5");
        int status = end(&run, "command\nstasis-init\ndaemon\n");
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 5);
}

static void signals_are_passed_on(void **state) {
        (void)state;
        static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH };
        struct run run;

        start_shell(&run, "for s in 1 2 3 10 12 15 28; do trap \"echo $s\" $s; done; "
                          "trap 'exit 9' ALRM; echo ready; while :; do sleep 0.01; done");
        expect(&run, "ready\n");
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
                _cleanup_free_ char *line = xasprintf("%d\n", numbers[i]);

                assert_int_equal(kill(run.pid, numbers[i]), 0);
                expect(&run, line);
        }
        assert_int_equal(kill(run.pid, SIGALRM), 0);
        assert_int_equal(WEXITSTATUS(end(&run, "")), 9);
}

static void signals_reach_what_is_left(void **state) {
        (void)state;
        struct run run;

        start_shell(&run, "(setsid sh -c 'trap \"echo ended; exit 0\" TERM; sleep 0.1; echo ready; "
                          "while :; do sleep 0.01; done' &); exit 3");
        expect(&run, "ready\n");
        assert_int_equal(kill(run.pid, SIGTERM), 0);
        assert_int_equal(WEXITSTATUS(end(&run, "ended\n")), 3);
}

/* The command starts as if it had been executed at once. */
static void nothing_of_it_is_in_the_command(void **state) {
        (void)state;
        struct run run;

        static const char script[] = "echo $0; grep -E '^Sig(Blk|Ign)' /proc/self/status; "
                                     "[ $(cut -d' ' -f5 /proc/$$/stat) = $PPID ] && echo same group";

        start(&run, (const char *const[]){ "--name", "other", "--", "/bin/sh", "-c", script, NULL });
        assert_int_equal(end(&run, "other\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nsame group\n"), 0);
}

static void wrong_use(void **state) {
        (void)state;
        struct run run;
        static const char usage[] = "usage: stasis-init [--report FD] [--name ARGV0] -- PATH ARGUMENT…\n";

        start(&run, (const char *const[]){ "--", NULL });
        assert_int_equal(WEXITSTATUS(end(&run, usage)), 2);
        start(&run, (const char *const[]){ "/bin/true", "x", NULL });
        assert_int_equal(WEXITSTATUS(end(&run, usage)), 2);
        start(&run, (const char *const[]){ "--", "/nowhere/x", NULL });
        assert_int_equal(WEXITSTATUS(end(&run, "stasis-init: cannot start the command: No such file or directory\n")),
                         127);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(exit_code),
                cmocka_unit_test(killed_by_a_signal),
                cmocka_unit_test(waits_for_what_forked_twice),
                cmocka_unit_test(signals_are_passed_on),
                cmocka_unit_test(signals_reach_what_is_left),
                cmocka_unit_test(nothing_of_it_is_in_the_command),
                cmocka_unit_test(wrong_use),
        };

        return cmocka_run_group_tests_name("supervisor_init", tests, NULL, NULL);
}
