/* SPDX-License-Identifier: Apache-2.0 */

/* The supervisor as its clients see it: output, input, several clients, the end. */

#include <sys/stat.h>

#include "test_supervisor_rig.h"

static int exit_code(const struct rig_client *client) {
        assert_true(client->exited);
        assert_true(WIFEXITED(client->status));
        return WEXITSTATUS(client->status);
}

static void streams_and_exit_code(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;
        struct supervisor_status status;

        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "read line; echo out $line; echo err >&2; exit 7" });
        rig_attach(&rig, &client);
        assert_true(client.hello.attachable);
        assert_false(client.hello.terminal);
        assert_false(client.hello.exited);
        rig_send_text(&client, "word\n");
        rig_drain(&client);
        assert_string_equal(client.text[0], "out word\n");
        assert_string_equal(client.text[1], "err\n");
        assert_int_equal(exit_code(&client), 7);
        rig_leave(&client);

        rig_wait(&rig);
        assert_int_equal(supervisor_status_read(rig.dir, &status), 0);
        assert_true(status.exited);
        assert_int_equal(WEXITSTATUS(status.exit_status), 7);
        assert_int_equal(supervisor_connect(rig.dir), -ENOENT); /* its socket is gone, its record not */
        rig_end(&rig);
}

static void input_ends(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;
        char block[40000];

        memset(block, 'x', sizeof(block));
        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "sleep 0.1; wc -c" });
        rig_attach(&rig, &client);
        /* More than pipe, queue and socket hold at once: whoever sends has to wait, and nothing is lost. */
        for (int i = 0; i < 50; i++)
                rig_send(&client, SUPERVISOR_STDIN, block, sizeof(block));
        rig_send(&client, SUPERVISOR_END, NULL, 0);
        rig_drain(&client);
        assert_string_equal(client.text[0], "2000000\n");
        assert_int_equal(exit_code(&client), 0);
        rig_leave(&client);
        rig_end(&rig);
}

static void several_clients(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client a, b, watcher;

        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "while read line; do echo got $line; done; exit 3" });
        rig_attach(&rig, &a);
        rig_attach(&rig, &b);
        rig_connect(&rig, &watcher); /* not attached: gets nothing */
        rig_send_text(&a, "one\n");
        rig_expect(&a, 0, "got one\n");
        rig_expect(&b, 0, "got one\n");
        rig_send_text(&b, "two\n");
        rig_expect(&a, 0, "got one\ngot two\n");
        rig_expect(&b, 0, "got one\ngot two\n");
        rig_leave(&a); /* to leave does not end the input */
        rig_send_text(&b, "three\n");
        rig_expect(&b, 0, "got three\n");
        rig_send(&b, SUPERVISOR_END, NULL, 0);
        rig_drain(&b);
        assert_int_equal(exit_code(&b), 3);
        rig_drain(&watcher);
        assert_null(watcher.text[0]);
        assert_false(watcher.exited);
        rig_leave(&b);
        rig_leave(&watcher);
        rig_end(&rig);
}

/* A counted stream of bytes, so that each one lost, doubled or changed shows. */
#define BIG_SIZE (100u * 1024 * 1024)
#define BIG \
        "i=0; while [ $i -lt 100 ]; do i=$((i+1)); head -c 1048576 /dev/zero | tr '\\0' \"\\\\$(printf %03o $i)\"; done"

static void nothing_of_much_output_is_lost(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;
        size_t at = 0;

        rig_start(&rig, &(struct rig_options){ RIG_PIPES, BIG "; exit 5", .linger = "20000" });
        rig_attach(&rig, &client);
        while (rig_receive(&client, RIG_TIMEOUT)) {
                for (size_t i = 0; i < client.size[0]; i++, at++)
                        if ((unsigned char)client.text[0][i] != at / 1048576 + 1)
                                fail_msg("byte %zu is %d", at, client.text[0][i]);
                client.size[0] = 0;
        }
        assert_int_equal(at, BIG_SIZE);
        assert_int_equal(exit_code(&client), 5);
        rig_leave(&client);
        rig_end(&rig);
}

static void slow_client_is_left_behind(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client fast, slow;
        size_t size = 0;

        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "read x; head -c 5000000 /dev/zero; read x; exit 4" });
        rig_attach(&rig, &slow);
        rig_attach(&rig, &fast);
        rig_send_text(&fast, "\n");
        while (size < 5000000) {
                assert_true(rig_receive(&fast, RIG_TIMEOUT));
                size += fast.size[0];
                fast.size[0] = 0;
        }
        rig_drain(&slow); /* it has lost its connection */
        assert_false(slow.exited);
        assert_true(slow.size[0] < 5000000);
        rig_send_text(&fast, "\n");
        rig_drain(&fast);
        assert_int_equal(exit_code(&fast), 4);
        rig_leave(&slow);
        rig_leave(&fast);
        rig_end(&rig);
}

static void job_waits_for_its_only_client(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;
        struct supervisor_status status;

        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "head -c 3000000 /dev/zero; exit 6", .linger = "20000" });
        rig_attach(&rig, &client);
        (void)poll(NULL, 0, 1500); /* longer than the patience with one of several */
        assert_int_equal(supervisor_status_read(rig.dir, &status), 0);
        assert_false(status.exited);
        rig_drain(&client);
        assert_int_equal(client.size[0], 3000000);
        assert_int_equal(exit_code(&client), 6);
        rig_leave(&client);
        rig_end(&rig);
}

static void backlog_is_for_the_first(void **state) {
        (void)state;
        _cleanup_free_ char *log = xasprintf("%s/supervisor-backlog-%d", path_temporary_dir(), getpid());
        struct stat st;
        struct rig rig;
        struct rig_client first, second;

        /* The log tells when all is printed. */
        rig_start(&rig, &(struct rig_options){
                                RIG_PIPES,
                                "head -c 200000 /dev/zero | tr '\\0' a; echo; seq 1000; echo e >&2; read x",
                                .log = log,
                        });
        while (stat(log, &st) < 0 || st.st_size < 200000 + 1 + 3893 + 2)
                (void)poll(NULL, 0, 5);
        rig_attach(&rig, &first);
        rig_expect(&first, 1, "e\n");
        /* The last bytes, of both streams together. */
        assert_int_equal(first.size[0] + first.size[1], SUPERVISOR_BACKLOG);
        assert_true(text_ends_with(first.text[0], "\n999\n1000\n"));
        rig_attach(&rig, &second);
        rig_send_text(&second, "\n");
        rig_drain(&second);
        assert_null(second.text[0]);
        assert_true(second.exited);
        unlink(log);
        rig_leave(&first);
        rig_leave(&second);
        rig_end(&rig);
}

static void linger_keeps_what_has_ended(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;
        struct supervisor_status status = { 0 };

        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "echo early; echo late >&2; exit 9", .linger = "20000" });
        while (!status.exited) {
                assert_int_equal(supervisor_status_read(rig.dir, &status), 0);
                (void)poll(NULL, 0, 5);
        }
        rig_attach(&rig, &client);
        assert_true(client.hello.exited);
        rig_drain(&client);
        assert_string_equal(client.text[0], "early\n");
        assert_string_equal(client.text[1], "late\n");
        assert_int_equal(exit_code(&client), 9);
        rig_leave(&client);
        rig_wait(&rig); /* long before the time */
        rig_end(&rig);
}

static void linger_holds_the_job_back(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;
        struct supervisor_status status;

        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "seq 100000; exit 9", .linger = "20000" });
        (void)poll(NULL, 0, 300);
        assert_int_equal(supervisor_status_read(rig.dir, &status), 0);
        assert_false(status.exited);
        rig_attach(&rig, &client);
        rig_drain(&client);
        assert_int_equal(client.size[0], 588895);
        assert_memory_equal(client.text[0], "1\n2\n3\n", 6);
        assert_int_equal(exit_code(&client), 9);
        rig_leave(&client);
        rig_end(&rig);
}

static void nobody_comes(void **state) {
        (void)state;
        struct rig rig;
        struct supervisor_status status;
        uint64_t begin = clock_ms();

        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "seq 100000; exit 9", .linger = "300" });
        rig_wait(&rig);
        assert_true(clock_ms() - begin >= 300);
        assert_int_equal(supervisor_status_read(rig.dir, &status), 0);
        assert_true(status.exited);
        rig_end(&rig);
}

/* The root has ended, a descendant lives and may print: those attached get the exit code, and so do those who come. */
static void descendant_outlives_the_root(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client, later;
        struct supervisor_status status;

        rig_start(&rig,
                  &(struct rig_options){ RIG_PIPES, "(trap '' HUP; echo $$; exec sleep 600) & echo root; exit 2" });
        rig_attach(&rig, &client);
        rig_drain(&client);
        assert_non_null(strstr(client.text[0], "root\n"));
        assert_int_equal(exit_code(&client), 2);
        assert_int_equal(supervisor_status_read(rig.dir, &status), 0);
        assert_true(status.exited);

        rig_attach(&rig, &later);
        assert_true(later.hello.exited);
        assert_int_equal(WEXITSTATUS(later.hello.status), 2);
        rig_drain(&later);
        assert_int_equal(exit_code(&later), 2);
        assert_int_equal(waitpid(rig.supervisor, NULL, WNOHANG), 0);
        assert_int_equal(kill(-status.pid, SIGKILL), 0); /* the session's first group has its number */
        rig_leave(&client);
        rig_leave(&later);
        rig_wait(&rig);
        rig_end(&rig);
}

static void signals_reach_the_root(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;

        rig_start(&rig, &(struct rig_options){ RIG_PIPES,
                                               "trap 'echo usr1' USR1; echo ready; while :; do read x; done; exit 1" });
        rig_attach(&rig, &client);
        rig_expect(&client, 0, "ready\n");
        rig_send_number(&client, SUPERVISOR_SIGNAL, SIGUSR1);
        rig_expect(&client, 0, "usr1\n");
        rig_send_number(&client, SUPERVISOR_SIGNAL, 1000);
        while (client.error == 0)
                assert_true(rig_receive(&client, RIG_TIMEOUT));
        assert_int_equal(client.error, EINVAL);
        client.error = 0;
        rig_send(&client, SUPERVISOR_WINDOW, &(struct supervisor_window){ 1, 2 }, sizeof(struct supervisor_window));
        rig_send_number(&client, SUPERVISOR_SIGNAL, SIGKILL);
        rig_drain(&client);
        assert_true(client.exited && WIFSIGNALED(client.status));
        assert_int_equal(WTERMSIG(client.status), SIGKILL);
        assert_int_equal(client.error, 0); /* a window size without a terminal is no mistake */
        rig_leave(&client);
        rig_end(&rig);
}

/* Signals to the supervisor itself are not for it. */
static void supervisor_ignores_signals(void **state) {
        (void)state;
        static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE };
        struct rig rig;
        struct rig_client client;

        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "read x; exit 8" });
        rig_attach(&rig, &client);
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
                assert_int_equal(kill(rig.supervisor, numbers[i]), 0);
        rig_send_text(&client, "\n");
        rig_drain(&client);
        assert_int_equal(exit_code(&client), 8);
        rig_leave(&client);
        rig_end(&rig);
}

static void nonsense_ends_the_connection(void **state) {
        (void)state;
        static const uint32_t wrong[] = { 0xffffffff, 17 };
        struct rig rig;
        struct rig_client client, other;

        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "read x; exit 1" });
        rig_connect(&rig, &client);
        rig_attach(&rig, &other);
        assert_int_equal(io_write_full(client.fd, wrong, sizeof(wrong)), 0);
        rig_drain(&client);
        assert_int_equal(client.error, EPROTO);
        rig_send(&other, 99, "of a later version", 18); /* passed over */
        rig_send_text(&other, "\n");
        rig_drain(&other);
        assert_int_equal(exit_code(&other), 1);
        rig_leave(&client);
        rig_leave(&other);
        rig_end(&rig);
}

static void too_many_clients(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client clients[SUPERVISOR_CLIENTS], more = { 0 };

        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "read x" });
        for (size_t i = 0; i < ELEMENTSOF(clients); i++)
                rig_connect(&rig, &clients[i]);
        more.fd = supervisor_connect(rig.dir);
        assert_true(more.fd >= 0);
        rig_drain(&more);
        assert_int_equal(more.error, EMFILE);
        rig_leave(&more);
        rig_send_text(&clients[0], "\n");
        for (size_t i = 0; i < ELEMENTSOF(clients); i++) {
                rig_drain(&clients[i]);
                rig_leave(&clients[i]);
        }
        rig_end(&rig);
}

static void without_streams(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;

        rig_start(&rig, &(struct rig_options){ RIG_NONE, "while :; do sleep 0.05; done" });
        rig_attach(&rig, &client);
        assert_false(client.hello.attachable);
        rig_send_text(&client, "x");
        while (client.error == 0)
                assert_true(rig_receive(&client, RIG_TIMEOUT));
        assert_int_equal(client.error, EOPNOTSUPP);
        rig_send_number(&client, SUPERVISOR_SIGNAL, SIGTERM);
        rig_drain(&client);
        assert_int_equal(WTERMSIG(client.status), SIGTERM); /* the exit code is for all */
        rig_leave(&client);
        rig_end(&rig);
}

static void long_path(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;

        rig_start(&rig,
                  &(struct rig_options){ RIG_PIPES, "exit 0", .linger = "20000",
                                         .below = "a-directory-whose-name-has-sixty-bytes-and-a-few-more-than-it/"
                                                  "another-directory-whose-name-has-sixty-bytes-and-a-few-more-x" });
        assert_true(strlen(rig.dir) > 108);
        rig_attach(&rig, &client);
        rig_drain(&client);
        assert_int_equal(exit_code(&client), 0);
        rig_leave(&client);
        rig_end(&rig);
}

static void small_in_memory(void **state) {
        (void)state;
        struct rig rig;
        struct rig_client client;
        _cleanup_free_ char *path = NULL, *text = NULL;
        unsigned long kib = 0, value;

        if (getenv("STASIS_SANITIZE"))
                skip();
        rig_start(&rig, &(struct rig_options){ RIG_PIPES, "head -c 300000 /dev/zero; echo; echo done >&2; read x" });
        (void)poll(NULL, 0, 300);
        rig_attach(&rig, &client);
        rig_expect(&client, 1, "done\n");
        path = xasprintf("/proc/%d/smaps_rollup", rig.supervisor);
        assert_int_equal(io_read_file(AT_FDCWD, path, 65536, &text, NULL), 0);
        for (const char *at = text; (at = strstr(at, "\nPrivate_")); at++)
                if (sscanf(at, "\nPrivate_%*[A-Za-z]: %lu kB", &value) == 1)
                        kib += value;
        assert_true(kib > 0);
        assert_in_range(kib, 1, 1024);
        rig_send_text(&client, "\n");
        rig_drain(&client);
        rig_leave(&client);
        rig_end(&rig);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(streams_and_exit_code),
                cmocka_unit_test(input_ends),
                cmocka_unit_test(several_clients),
                cmocka_unit_test(nothing_of_much_output_is_lost),
                cmocka_unit_test(slow_client_is_left_behind),
                cmocka_unit_test(job_waits_for_its_only_client),
                cmocka_unit_test(backlog_is_for_the_first),
                cmocka_unit_test(linger_keeps_what_has_ended),
                cmocka_unit_test(linger_holds_the_job_back),
                cmocka_unit_test(nobody_comes),
                cmocka_unit_test(descendant_outlives_the_root),
                cmocka_unit_test(signals_reach_the_root),
                cmocka_unit_test(supervisor_ignores_signals),
                cmocka_unit_test(nonsense_ends_the_connection),
                cmocka_unit_test(too_many_clients),
                cmocka_unit_test(without_streams),
                cmocka_unit_test(long_path),
                cmocka_unit_test(small_in_memory),
        };

        (void)signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests_name("supervisor", tests, NULL, NULL);
}
