/* SPDX-License-Identifier: Apache-2.0 */

/* The supervisor of a job on a terminal, and its log. */

#include "test_supervisor_rig.h"

/*
 * A signal that comes just before the shell's read(2) shows its effect only after that: each is followed by a line.
 */
static void wake_shell(struct rig_client *client) {
        rig_send_text(client, "\n");
}

static void keys_and_window(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;

        rig_start(&rig, &(struct rig_options){
                                RIG_TERMINAL, "trap 'stty size' WINCH; trap 'echo int' INT; tty >/dev/tty; echo ready; "
                                              "while :; do read x; echo got $x; done" });
        rig_attach(&rig, &client);
        assert_true(client.hello.terminal);
        rig_expect(&client, 0, "/dev/pts/");
        rig_expect(&client, 0, "ready\r\n");
        rig_send(&client, SUPERVISOR_WINDOW, &(struct supervisor_window){ 33, 77 }, sizeof(struct supervisor_window));
        wake_shell(&client);
        rig_expect(&client, 0, "33 77\r\n");
        rig_send_text(&client, "\003"); /* Ctrl-C */
        wake_shell(&client);
        rig_expect(&client, 0, "int\r\n");
        rig_send_text(&client, "word\n");
        rig_expect(&client, 0, "got word\r\n");
        rig_send_number(&client, SUPERVISOR_SIGNAL, SIGKILL);
        rig_drain(&client);
        assert_true(client.exited);
        assert_int_equal(WTERMSIG(client.status), SIGKILL);
        rig_leave(&client);
        rig_wait(&rig);
        rig_end(&rig);
}

/* Who attaches with the size that is there already has an empty screen: programs draw theirs anew. */
static void same_size_is_told_once(void **state) {
        (void)state;
        const struct supervisor_window window = { 0, 0 }; /* what a fresh terminal has */
        struct rig rig;
        struct rig_client client;

        rig_start(&rig, &(struct rig_options){ RIG_TERMINAL,
                                               "n=0; trap 'n=$((n+1)); echo drawn $n' WINCH; trap 'echo usr $n' USR1; "
                                               "echo ready; while :; do read x; done" });
        rig_attach(&rig, &client);
        rig_expect(&client, 0, "ready\r\n");
        rig_send(&client, SUPERVISOR_WINDOW, &window, sizeof(window));
        wake_shell(&client);
        rig_expect(&client, 0, "drawn 1\r\n");
        rig_send(&client, SUPERVISOR_WINDOW, &window, sizeof(window));
        rig_send_number(&client, SUPERVISOR_SIGNAL, SIGUSR1);
        wake_shell(&client);
        rig_expect(&client, 0, "usr 1\r\n");
        rig_send_number(&client, SUPERVISOR_SIGNAL, SIGKILL);
        rig_drain(&client);
        rig_leave(&client);
        rig_end(&rig);
}

static void end_is_control_d(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;

        rig_start(&rig, &(struct rig_options){ RIG_TERMINAL, "cat >/dev/null; echo ended; cat; echo again" });
        rig_attach(&rig, &client);
        rig_send_text(&client, "line\n");
        rig_send(&client, SUPERVISOR_END, NULL, 0);
        rig_expect(&client, 0, "ended\r\n");
        rig_send_text(&client, "unfinished"); /* one ^D hands it over, the second is the end */
        rig_expect(&client, 0, "unfinished");
        rig_send(&client, SUPERVISOR_END, NULL, 0);
        rig_expect(&client, 0, "again\r\n");
        rig_drain(&client);
        assert_true(client.exited);
        rig_leave(&client);
        rig_end(&rig);
}

/* A signal goes to the foreground group: not to the shell, which has moved it. */
static void foreground_group(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;

        rig_start(&rig,
                  &(struct rig_options){
                          RIG_TERMINAL,
                          "set -m; trap 'echo wrong' TERM USR2; sh -c 'trap \"echo right; exit 5\" USR2; echo ready; "
                          "while :; do sleep 0.02; done'; echo code $?; exit 4" });
        rig_attach(&rig, &client);
        rig_expect(&client, 0, "ready\r\n");
        rig_send_number(&client, SUPERVISOR_SIGNAL, SIGUSR2);
        rig_expect(&client, 0, "right\r\n");
        rig_expect(&client, 0, "code 5\r\n");
        rig_drain(&client);
        assert_int_equal(WEXITSTATUS(client.status), 4);
        assert_null(strstr(client.text[0], "wrong"));
        rig_leave(&client);
        rig_end(&rig);
}

/* Its controlling terminal stays, although nobody has it open for a while. */
static void terminal_is_closed_and_opened_again(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;

        rig_start(&rig, &(struct rig_options){ RIG_TERMINAL, "echo before; exec </dev/null >/dev/null 2>&1; sleep 0.3; "
                                                             "exec >/dev/tty; echo after; sleep 0.3; exit 3" });
        rig_attach(&rig, &client);
        rig_drain(&client);
        assert_string_equal(client.text[0], "before\r\nafter\r\n");
        assert_true(WIFEXITED(client.status));
        assert_int_equal(WEXITSTATUS(client.status), 3);
        rig_leave(&client);
        rig_end(&rig);
}

static void last_words_of_a_terminal(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;

        /* All that was printed right before the end comes, and then the exit code. */
        rig_start(&rig, &(struct rig_options){ RIG_TERMINAL, "stty -onlcr; seq 200000; exit 3", .linger = "20000" });
        rig_attach(&rig, &client);
        rig_drain(&client);
        assert_int_equal(client.size[0], 1288895);
        assert_true(text_ends_with(client.text[0], "\n199999\n200000\n"));
        assert_int_equal(WEXITSTATUS(client.status), 3);
        rig_leave(&client);
        rig_end(&rig);
}

static void log_is_appended_to(void **state) {
        (void)state;
        char path[] = "/tmp/supervisor-log-XXXXXX";
        _cleanup_free_ char *text = NULL;
        struct rig rig;
        struct rig_client client;
        int fd = mkostemp(path, O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(io_write_full(fd, "old\n", 4), 0);
        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "echo one; read x; echo two >&2", .log = path });
        rig_attach(&rig, &client);
        rig_send_text(&client, "\n");
        rig_drain(&client);
        rig_wait(&rig);
        assert_int_equal(io_read_file(AT_FDCWD, path, 4096, &text, NULL), 0);
        assert_string_equal(text, "old\none\ntwo\n");
        rig_leave(&client);
        rig_end(&rig);
        unlink(path);
        close(fd);
}

static void log_that_cannot_be_written(void **state) {
        (void)state;
        static const struct {
                const char *path, *problem;
        } cases[] = {
                { "/dev/full", "cannot write /dev/full: No space left on device\n" },
                { "/nowhere/log", "cannot write /nowhere/log: No such file or directory\n" },
                { "/proc/self/exe", "cannot write /proc/self/exe: Too many levels of symbolic links\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *path = NULL, *text = NULL;
                struct rig rig;
                struct rig_client client;

                rig_start(&rig, &(struct rig_options){ RIG_PIPES, "echo one; read x; echo two", .log = cases[i].path });
                rig_attach(&rig, &client);
                rig_expect(&client, 0, "one\n");
                path = path_join(rig.dir, "log-problem");
                assert_int_equal(io_read_file(AT_FDCWD, path, 4096, &text, NULL), 0);
                assert_string_equal(text, cases[i].problem);
                rig_send_text(&client, "\n");
                rig_expect(&client, 0, "two\n");
                rig_drain(&client);
                assert_true(client.exited);
                rig_leave(&client);
                rig_end(&rig);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(keys_and_window),
                cmocka_unit_test(same_size_is_told_once),
                cmocka_unit_test(end_is_control_d),
                cmocka_unit_test(foreground_group),
                cmocka_unit_test(terminal_is_closed_and_opened_again),
                cmocka_unit_test(last_words_of_a_terminal),
                cmocka_unit_test(log_is_appended_to),
                cmocka_unit_test(log_that_cannot_be_written),
        };

        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGINT, SIG_DFL); /* a shell ignores it in what it starts in the background, and so would ours */
        return cmocka_run_group_tests_name("supervisor_terminal", tests, NULL, NULL);
}
