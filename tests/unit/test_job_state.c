/* SPDX-License-Identifier: Apache-2.0 */

/* The ways of a job, written down a second time: a change of the table must be meant. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "db/job_state.h"

/* Row: from; column: to; in the order of the enum. */
static const char *const ways[] = {
        /* S R C r E L */
        "0 1 0 0 1 1", /* starting */
        "0 0 1 0 1 1", /* running */
        "0 0 0 1 0 0", /* checkpointed */
        "0 1 1 0 1 1", /* restoring */
        "0 0 1 1 0 0", /* exited */
        "0 1 1 1 1 0", /* lost */
};

static void test_ways(void **state) {
        (void)state;
        for (unsigned from = 0; from < ELEMENTSOF(ways); from++)
                for (unsigned to = 0; to < ELEMENTSOF(ways); to++)
                        if (job_state_may_become((Stasis__V1__JobState)from, (Stasis__V1__JobState)to) !=
                            (ways[from][to * 2] == '1'))
                                fail_msg("from %s to %s", job_state_name((Stasis__V1__JobState)from),
                                         job_state_name((Stasis__V1__JobState)to));
}

static void test_alive(void **state) {
        (void)state;
        assert_true(job_state_is_alive(STASIS__V1__JOB_STATE__STARTING));
        assert_true(job_state_is_alive(STASIS__V1__JOB_STATE__RUNNING));
        assert_true(job_state_is_alive(STASIS__V1__JOB_STATE__RESTORING));
        assert_false(job_state_is_alive(STASIS__V1__JOB_STATE__CHECKPOINTED));
        assert_false(job_state_is_alive(STASIS__V1__JOB_STATE__EXITED));
        assert_false(job_state_is_alive(STASIS__V1__JOB_STATE__LOST));
}

/* A newer daemon may have more states. */
static void test_unknown(void **state) {
        (void)state;
        const Stasis__V1__JobState unknown = (Stasis__V1__JobState)40;

        assert_false(job_state_is_alive(unknown));
        assert_false(job_state_may_become(unknown, STASIS__V1__JOB_STATE__RUNNING));
        assert_false(job_state_may_become(STASIS__V1__JOB_STATE__RUNNING, unknown));
        assert_string_equal(job_state_name(unknown), "unknown");
        assert_string_equal(job_state_name(STASIS__V1__JOB_STATE__CHECKPOINTED), "checkpointed");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ways),
                cmocka_unit_test(test_alive),
                cmocka_unit_test(test_unknown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
