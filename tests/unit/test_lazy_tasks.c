/* SPDX-License-Identifier: Apache-2.0 */

/* Where what was at an address at the dump is now. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "lazy/tasks.h"

#define P LAZY_PAGE
#define PAGES 64

static struct lazy_piece pieces[] = {
        { .at = 16 * P, .count = 8, .frame = 0, .page = 0 },
        { .at = 24 * P, .count = 4, .frame = LAZY_ZERO },
        { .at = 32 * P, .count = 8, .frame = 1, .page = 3 },
};
static struct lazy_plan_task task_plan = { .pid = 7, .pieces = pieces, .n = ELEMENTSOF(pieces) };
static const struct lazy_plan plan = { .tasks = &task_plan, .n_tasks = 1, .n_frames = 2 };

static void finds_pieces(void **state) {
        (void)state;
        assert_null(lazy_plan_piece(&task_plan, 15 * P));
        assert_ptr_equal(lazy_plan_piece(&task_plan, 16 * P), &pieces[0]);
        assert_ptr_equal(lazy_plan_piece(&task_plan, 23 * P), &pieces[0]);
        assert_ptr_equal(lazy_plan_piece(&task_plan, 24 * P), &pieces[1]);
        assert_null(lazy_plan_piece(&task_plan, 28 * P));
        assert_ptr_equal(lazy_plan_piece(&task_plan, 39 * P), &pieces[2]);
        assert_null(lazy_plan_piece(&task_plan, 40 * P));
        assert_int_equal(lazy_plan_find(&plan, 7), 0);
        assert_true(lazy_plan_find(&plan, 8) < 0);
}

static void cuts_and_moves(void **state) {
        struct lazy_task *task = lazy_task_new(&plan, 0, -EBADF);
        uint64_t at = 0, now, size;

        (void)state;
        assert_int_equal(task->n, 2); /* 16 to 28, 32 to 40 */
        assert_true(lazy_task_locate(task, &at, 100 * P, &now, &size));
        assert_true(at == 16 * P && now == 16 * P && size == 12 * P);

        lazy_task_cut(task, 20 * P, 34 * P);
        at = 18 * P;
        assert_true(lazy_task_locate(task, &at, 100 * P, &now, &size));
        assert_true(at == 18 * P && size == 2 * P);
        at = 20 * P;
        assert_true(lazy_task_locate(task, &at, 100 * P, &now, &size));
        assert_true(at == 34 * P && size == 6 * P);
        at = 20 * P;
        assert_false(lazy_task_locate(task, &at, 34 * P, &now, &size));

        /* To a lower address; what it is moved over is gone. */
        lazy_task_move(task, 36 * P, 38 * P, 17 * P);
        assert_false(lazy_task_origin(task, 37 * P, &at));
        assert_true(lazy_task_origin(task, 17 * P, &at));
        assert_true(at == 36 * P);
        assert_true(lazy_task_origin(task, 16 * P, &at));
        assert_true(at == 16 * P);
        at = 17 * P;
        assert_true(lazy_task_locate(task, &at, 100 * P, &now, &size));
        assert_true(at == 19 * P && now == 19 * P && size == P);
        at = 36 * P;
        assert_true(lazy_task_locate(task, &at, 100 * P, &now, &size));
        assert_true(now == 17 * P && size == 2 * P);

        lazy_task_set(task, 1, true);
        struct lazy_task *child = lazy_task_clone(&plan, task, -EBADF);
        lazy_task_cut(task, 0, 100 * P);
        assert_int_equal(task->n, 0);
        assert_true(lazy_task_has(child, 1));
        assert_false(lazy_task_has(child, 0));
        assert_true(lazy_task_origin(child, 18 * P, &at));
        assert_true(at == 37 * P);
        lazy_task_free(child);
        lazy_task_free(task);
}

/* Against a simple model: an array that says for each page now which page it was. */
static void as_a_model(void **state) {
        (void)state;
        for (unsigned seed = 1; seed <= 200; seed++) {
                struct lazy_task *task = lazy_task_new(&plan, 0, -EBADF);
                unsigned model[PAGES] = { 0 }, random = seed;

                for (unsigned i = 16; i < 28; i++)
                        model[i] = i;
                for (unsigned i = 32; i < 40; i++)
                        model[i] = i;
                for (int step = 0; step < 30; step++) {
                        random = random * 1103515245 + 12345;
                        unsigned from = random >> 16 & 31, n = 1 + (random >> 21 & 7),
                                 to = from + n + (random >> 24 & 15);
                        if (random >> 28 & 1) {
                                lazy_task_cut(task, from * P, (from + n) * P);
                                memset(model + from, 0, n * sizeof(*model));
                        } else {
                                lazy_task_move(task, from * P, (from + n) * P, to * P);
                                memcpy(model + to, model + from, n * sizeof(*model));
                                memset(model + from, 0, n * sizeof(*model));
                        }
                        for (unsigned i = 0; i < PAGES; i++) {
                                uint64_t then = 0, now, size;
                                bool there = lazy_task_origin(task, i * P, &then);

                                assert_int_equal(there, model[i] != 0);
                                if (!there)
                                        continue;
                                assert_int_equal(then, model[i] * P);
                                assert_true(lazy_task_locate(task, &then, then + P, &now, &size));
                                assert_int_equal(now, i * P);
                        }
                }
                lazy_task_free(task);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(finds_pieces),
                cmocka_unit_test(cuts_and_moves),
                cmocka_unit_test(as_a_model),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
