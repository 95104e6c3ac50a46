/* SPDX-License-Identifier: Apache-2.0 */

/* The chain: order, undoing, failure, cancelling, and the times it reports. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/chain.h"
#include "engine/operation.h"

struct trace {
        struct strv events;
        uint64_t inclusive[8], exclusive[8];
        int cancel_fd;
        bool cancel_in_first, fail_in_last;
};

static struct trace *trace;
static char root[] = "/tmp/stasis-test.XXXXXX";

static int setup(void **unused) {
        (void)unused;
        return mkdtemp(root) ? setenv("STASIS_RUN_DIR", root, 1) : -1;
}

static int teardown(void **unused) {
        (void)unused;
        return io_remove_tree(root);
}

static void on_report(const Stasis__Worker__Report *report, void *userdata) {
        struct trace *t = userdata;

        if (report->kind_case == STASIS__WORKER__REPORT__KIND_SPAN) {
                t->inclusive[report->span->depth] = report->span->inclusive;
                t->exclusive[report->span->depth] = report->span->exclusive;
        }
}

static int first(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        const uint64_t one = 1;
        int r;

        strv_add(&trace->events, "first");
        if (trace->cancel_in_first)
                assert_int_equal(io_write_full(trace->cancel_fd, &one, sizeof(one)), 0);
        r = st_dump_proceed(next, dump, err);
        strv_add(&trace->events, "undo first");
        return r;
}

static int second(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        int r;

        strv_add(&trace->events, "second");
        usleep(2000);
        r = st_dump_proceed(next, dump, err);
        strv_add(&trace->events, "undo second");
        return r;
}

static int last(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        strv_add(&trace->events, "last");
        usleep(5000);
        if (trace->fail_in_last)
                return st_error_set(err, ENOSPC, "disk full");
        /* There is nothing below the handler. */
        assert_int_equal(st_dump_proceed(next, dump, NULL), -EINVAL);
        return 0;
}

static int run(struct trace *t, struct st_error **err) {
        const struct st_dump_adapter adapters[] = { { "first", first }, { "second", second }, { "last", last } };
        _cleanup_close_ int cancel_fd = eventfd(0, EFD_CLOEXEC);
        _cleanup_(operation_freep) struct st_operation *operation = NULL;
        const struct operation_options options = { .cancel_fd = cancel_fd, .report = on_report, .userdata = t };
        struct st_dump dump = { .size = sizeof(dump) };
        struct chain chain = { 0 };

        trace = t;
        t->cancel_fd = cancel_fd;
        assert_int_equal(operation_new(&options, &operation, NULL), 0);
        chain.operation = dump.operation = operation;
        for (size_t i = 0; i < ELEMENTSOF(adapters); i++)
                assert_int_equal(chain_add_dump(&chain, NULL, &adapters[i], NULL), 0);
        return chain_run_dump(&chain, &dump, err);
}

static void expect_events(struct trace *t, const char *expected) {
        _cleanup_free_ char *events = strv_join(&t->events, ", ");
        assert_string_equal(events, expected);
        strv_clear(&t->events);
}

static void test_order_and_times(void **unused) {
        (void)unused;
        struct trace t = { 0 };

        assert_int_equal(run(&t, NULL), 0);
        expect_events(&t, "first, second, last, undo second, undo first");
        /* Times nest: the outer one holds the inner ones, and each exclusive time is its own share. */
        assert_true(t.inclusive[0] >= t.inclusive[1] && t.inclusive[1] >= t.inclusive[2]);
        assert_true(t.exclusive[2] >= 5000000 && t.exclusive[1] >= 2000000);
        assert_true(t.inclusive[0] == t.exclusive[0] + t.inclusive[1]);
        assert_true(t.inclusive[1] == t.exclusive[1] + t.inclusive[2]);
}

static void test_failure_undoes(void **unused) {
        (void)unused;
        struct trace t = { .fail_in_last = true };
        _cleanup_error_ struct st_error *error = NULL;

        assert_int_equal(run(&t, &error), -ENOSPC);
        assert_string_equal(st_error_message(error), "disk full");
        expect_events(&t, "first, second, last, undo second, undo first");
}

static void test_cancelled_between(void **unused) {
        (void)unused;
        struct trace t = { .cancel_in_first = true };

        assert_int_equal(run(&t, NULL), -ECANCELED);
        expect_events(&t, "first, undo first");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_order_and_times),
                cmocka_unit_test(test_failure_undoes),
                cmocka_unit_test(test_cancelled_between),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
