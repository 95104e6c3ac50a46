/* SPDX-License-Identifier: Apache-2.0 */

/* The saved state of a checkpoint: written and read back; what is damaged or foreign is refused. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/state.h"
#include "process/proc.h"

static char *write_state(void) {
        Daemon__DumpReq req = DAEMON__DUMP_REQ__INIT;
        Daemon__ProcessState process = DAEMON__PROCESS_STATE__INIT;
        Criu__CriuOpts criu = CRIU__CRIU_OPTS__INIT;
        struct process_task tasks[] = { { .pid = 42, .pgid = 42, .sid = 42 },
                                        { .pid = 43, .pgid = 42, .sid = 42, .start_time = 4711 } };
        struct process_fd pipe = { .pid = 43, .fd = 1, .inode = 777, .writable = true };
        unsigned pty = 7;
        struct process_analysis analysis = {
                .ptys = &pty,
                .n_ptys = 1,
                .tasks = tasks,
                .n_tasks = ELEMENTSOF(tasks),
                .external_pipes = { .items = &pipe, .n = 1 },
        };
        char *keys[] = { (char *)"tty[8803:17]", NULL };
        const struct strv terminals = { .items = keys, .n = 1 };
        struct st_dump dump = { .req = &req, .criu = &criu, .state = &process };

        req.type = (char *)"process";
        process.has_pid = 1;
        process.pid = 42;
        process.cmdline = (char *)"program \"with\" quotes";
        criu.has_shell_job = criu.shell_job = 1;
        criu.has_ghost_limit = 1; /* of no use to a restore: not kept */
        return state_to_json(&dump, &analysis, &terminals, "4.2.1");
}

static void test_round_trip(void **unused) {
        (void)unused;
        _cleanup_free_ char *text = write_state();
        _cleanup_(saved_state_freep) struct saved_state *saved = NULL;
        _cleanup_error_ struct st_error *error = NULL;

        assert_int_equal(state_from_json(text, &saved, &error), 0);
        assert_string_equal(saved->type, "process");
        assert_int_equal(saved->state->pid, 42);
        assert_string_equal(saved->state->cmdline, "program \"with\" quotes");
        assert_true(saved->criu->has_shell_job && saved->criu->shell_job);
        assert_false(saved->criu->has_ghost_limit);
        assert_int_equal(saved->n_tasks, 2);
        assert_int_equal(saved->tasks[1].pid, 43);
        assert_int_equal(saved->n_ptys, 1);
        assert_int_equal(saved->ptys[0], 7);
        assert_int_equal(saved->n_pipes, 1);
        assert_int_equal(saved->pipes[0].inode, 777);
        assert_true(saved->pipes[0].writable);
        assert_int_equal(saved->terminals.n, 1);
        assert_string_equal(saved->terminals.items[0], "tty[8803:17]");
        assert_int_equal(saved->tasks[1].start, 4711);
        assert_int_equal(saved->tasks[1].n_threads, 0);
        assert_string_equal(saved->boot, proc_boot_id());
        assert_string_equal(saved->criu_version, "4.2.1");
        assert_false(saved->pid_namespace);
}

/* What a newer stasis adds is absent in older checkpoints. */
static void test_optional(void **unused) {
        (void)unused;
        _cleanup_(saved_state_freep) struct saved_state *saved = NULL;
        static const char older[] = "{\"version\":1,\"type\":\"process\",\"criu\":{},\"state\":{},"
                                    "\"tasks\":[{\"pid\":7,\"pgid\":7,\"sid\":7}],\"ptys\":[],\"pipes\":[]}";
        static const char threads[] = "{\"version\":1,\"type\":\"process\",\"criu\":{},\"state\":{},"
                                      "\"tasks\":[{\"pid\":7,\"pgid\":7,\"sid\":7,\"threads\":[8,9]}],\"ptys\":[],"
                                      "\"pipes\":[],\"pid_namespace\":true}";

        assert_int_equal(state_from_json(older, &saved, NULL), 0);
        assert_null(saved->boot);
        assert_null(saved->criu_version);
        assert_null(saved->cpu_flags);
        assert_int_equal(saved->tasks[0].start, 0);
        assert_int_equal(saved->terminals.n, 0);
        saved = saved_state_free(saved);
        assert_int_equal(state_from_json(threads, &saved, NULL), 0);
        assert_int_equal(saved->tasks[0].n_threads, 2);
        assert_int_equal(saved->tasks[0].threads[1], 9);
        assert_true(saved->pid_namespace);
}

static void test_truncated(void **unused) {
        (void)unused;
        _cleanup_free_ char *text = write_state();

        for (size_t length = strlen(text); length-- > 0;) {
                _cleanup_(saved_state_freep) struct saved_state *saved = NULL;
                text[length] = '\0';
                assert_int_equal(state_from_json(text, &saved, NULL), -EBADMSG);
                assert_null(saved);
        }
}

static void refuse(const char *text, int number, const char *expected) {
        _cleanup_(saved_state_freep) struct saved_state *saved = NULL;
        _cleanup_error_ struct st_error *error = NULL;

        assert_int_equal(state_from_json(text, &saved, &error), number);
        assert_non_null(strstr(st_error_message(error), expected));
}

/* The key becomes a part of an option of CRIU's. */
static void test_terminals(void **unused) {
        (void)unused;
        static const char *const bad[] = { "1",
                                           "\"\"",
                                           "\"tty[:1]\"",
                                           "\"tty[1:]\"",
                                           "\"tty[1:2\"",
                                           "\"tty[1:2]x\"",
                                           "\"tty[1:2]:file[/etc/shadow]\"",
                                           "\"tty[11111111111111111:2]\"",
                                           "\"file[1:2]\"" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *text =
                        xasprintf("{\"version\":1,\"type\":\"process\",\"criu\":{},\"state\":{},\"tasks\":[{\"pid\":7,"
                                  "\"pgid\":7,\"sid\":7}],\"ptys\":[],\"pipes\":[],\"terminals\":[%s]}",
                                  bad[i]);
                refuse(text, -EBADMSG, "a terminal is not readable");
        }
}

static void test_refused(void **unused) {
        (void)unused;
        refuse("[]", -EBADMSG, "not readable");
        refuse("{\"version\":1}", -EBADMSG, "not readable");
        refuse("{\"version\":99,\"type\":\"process\",\"criu\":{},\"state\":{},\"tasks\":[],\"ptys\":[],\"pipes\":[]}",
               -EOPNOTSUPP, "newer stasis");
        refuse("{\"version\":1,\"type\":\"process\",\"criu\":{},\"state\":{},\"tasks\":[],\"ptys\":[],\"pipes\":[]}",
               -EBADMSG, "0 tasks");
        refuse("{\"version\":1,\"type\":\"process\",\"criu\":{},\"state\":{},\"tasks\":[{\"pid\":-3,\"pgid\":1,"
               "\"sid\":1}],\"ptys\":[],\"pipes\":[]}",
               -EBADMSG, "PID -3");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip), cmocka_unit_test(test_optional), cmocka_unit_test(test_truncated),
                cmocka_unit_test(test_terminals),  cmocka_unit_test(test_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
