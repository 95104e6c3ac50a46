/* SPDX-License-Identifier: Apache-2.0 */

/* Preflight: how problems become one error, and what of the machine is told of a checkpoint of another one. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/preflight_dump.h"
#include "engine/preflight_restore.h"
#include "process/host.h"
#include "process/proc.h"

static void test_problems(void **state) {
        (void)state;
        struct dump_problems problems = { 0 };
        _cleanup_error_ struct st_error *error = NULL;

        for (int i = 1; i <= 7; i++)
                dump_problem(&problems, i == 1 ? EBUSY : EOPNOTSUPP, i % 2 ? "do this" : NULL, "problem %d", i);
        assert_int_equal(dump_problems_error(&problems, &error), -EBUSY);
        assert_string_equal(st_error_message(error),
                            "problem 1; problem 2; problem 3; problem 4; problem 5; and 2 more (hint: do this)");
        dump_problems_clear(&problems);
}

/* A preflight of a checkpoint that says nothing but what a test sets. */
struct fixture {
        struct restore_context context;
        struct saved_state saved;
        struct preflight preflight;
        struct criu_binary criu;
        Criu__CriuOpts options;
};

static void fixture_init(struct fixture *fixture) {
        *fixture = (struct fixture){
                .criu = { .path = (char *)"/criu", .version = (char *)"4.2.1", .number = 40201, .working = true }
        };
        fixture->saved.state = message_new(&daemon__process_state__descriptor);
        fixture->context.criu = &fixture->criu;
        fixture->context.saved = &fixture->saved;
        fixture->preflight = (struct preflight){
                .restore = &fixture->context.restore,
                .saved = &fixture->saved,
                .check = "check",
        };
}

static void fixture_clear(struct fixture *fixture) {
        message_freep(&fixture->saved.state);
        restore_findings_clear(&fixture->preflight.findings);
        free(fixture->preflight.summary);
}

/* Exactly one finding, of that level, with that text. */
static void assert_found(const struct fixture *fixture, Daemon__FindingLevel level, const char *text) {
        assert_int_equal(fixture->preflight.findings.n, 1);
        const Daemon__Finding *finding = fixture->preflight.findings.items[0];

        assert_int_equal(finding->level, level);
        assert_string_equal(finding->check, "check");
        if (!strstr(finding->text, text))
                fail_msg("no '%s' in '%s'", text, finding->text);
}

static void check_flags(const char *more, Daemon__FindingLevel level, const char *text) {
        _cleanup_free_ char *here = host_cpu_flags(), *then = xasprintf("%s %s", here ?: "fpu", more);
        struct fixture fixture;

        if (!here)
                skip();
        fixture_init(&fixture);
        fixture.saved.cpu_flags = then;
        assert_int_equal(preflight_machine(&fixture.preflight, NULL), 0);
        if (text)
                assert_found(&fixture, level, text);
        else
                assert_int_equal(fixture.preflight.findings.n, 0);
        fixture_clear(&fixture);
}

static void test_cpu(void **state) {
        (void)state;
        check_flags("", DAEMON__FINDING_LEVEL__OK, NULL);
        check_flags("arch_perfmon_of_tomorrow", DAEMON__FINDING_LEVEL__OK, NULL); /* not about instructions */
        check_flags("avx4096", DAEMON__FINDING_LEVEL__PROBLEM, "had avx4096, this one has not");
        check_flags("xop tbm", DAEMON__FINDING_LEVEL__WARNING, "SIGILL"); /* AMD's, given up before this kernel */
}

static void test_kernel(void **state) {
        (void)state;
        Daemon__Host host = DAEMON__HOST__INIT;
        struct fixture fixture;

        fixture_init(&fixture);
        host.kernelversion = (char *)"999.1.0-future";
        fixture.saved.state->host = &host;
        assert_int_equal(preflight_machine(&fixture.preflight, NULL), 0);
        assert_found(&fixture, DAEMON__FINDING_LEVEL__WARNING, "older than the dump's 999.1.0-future");
        fixture.saved.state->host = NULL;
        fixture_clear(&fixture);

        fixture_init(&fixture);
        host.kernelversion = (char *)"2.6.32";
        fixture.saved.state->host = &host;
        assert_int_equal(preflight_machine(&fixture.preflight, NULL), 0);
        assert_int_equal(fixture.preflight.findings.n, 0);
        fixture.saved.state->host = NULL;
        fixture_clear(&fixture);
}

static void test_criu(void **state) {
        (void)state;
        struct fixture fixture;

        fixture_init(&fixture);
        fixture.saved.criu_version = (char *)"4.2";
        assert_int_equal(preflight_criu(&fixture.preflight, NULL), 0);
        assert_int_equal(fixture.preflight.findings.n, 0);
        fixture.saved.criu_version = (char *)"5.0";
        assert_int_equal(preflight_criu(&fixture.preflight, NULL), 0);
        assert_found(&fixture, DAEMON__FINDING_LEVEL__WARNING, "CRIU 4.2.1 here is older than the dump's 5.0");
        fixture_clear(&fixture);

        fixture_init(&fixture);
        fixture.criu.working = false;
        fixture.criu.problem = (char *)"no ptrace";
        assert_int_equal(preflight_criu(&fixture.preflight, NULL), 0);
        assert_found(&fixture, DAEMON__FINDING_LEVEL__PROBLEM, "CRIU does not work here: no ptrace");
        fixture_clear(&fixture);
}

/* In a new PID namespace nobody has the numbers that were seen from outside. */
static void test_pid_namespace(void **state) {
        (void)state;
        struct saved_task task = { .pid = getpid(), .pgid = getpid(), .sid = getpid() };
        struct fixture fixture;

        fixture_init(&fixture);
        fixture.saved.tasks = &task;
        fixture.saved.n_tasks = 1;
        fixture.saved.pid_namespace = true;
        assert_int_equal(preflight_pids(&fixture.preflight, NULL), 0);
        assert_int_equal(fixture.preflight.findings.n, 0);
        fixture_clear(&fixture);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_problems), cmocka_unit_test(test_cpu),           cmocka_unit_test(test_kernel),
                cmocka_unit_test(test_criu),     cmocka_unit_test(test_pid_namespace),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
