/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/job_status.h"
#include "process/proc.h"

/* A job whose process we are. */
static struct db_job ourselves(void) {
        struct proc_stat stat;

        assert_int_equal(proc_read_stat(getpid(), &stat), 0);
        return (struct db_job){
                .state = STASIS__V1__JOB_STATE__RUNNING,
                .pid = getpid(),
                .start_time = stat.start_time,
                .boot = (char *)proc_boot_id(),
        };
}

static void test_alive(void **state) {
        struct db_job job = ourselves();

        (void)state;
        assert_string_equal(job_status(&job), "running");
}

static void test_halted(void **state) {
        struct db_job job = ourselves();

        (void)state;
        job.state = STASIS__V1__JOB_STATE__EXITED;
        assert_string_equal(job_status(&job), JOB_HALTED);
        job = ourselves();
        job.start_time++; /* the number is another process's now */
        assert_string_equal(job_status(&job), JOB_HALTED);
        job = ourselves();
        job.boot = (char *)"another";
        assert_string_equal(job_status(&job), JOB_HALTED);
        job = ourselves();
        job.pid = 0;
        assert_string_equal(job_status(&job), JOB_HALTED);
}

static void test_words(void **state) {
        (void)state;
        assert_string_equal(job_status_word('R'), "running");
        assert_string_equal(job_status_word('S'), "sleep");
        assert_string_equal(job_status_word('D'), "disk-sleep");
        assert_string_equal(job_status_word('T'), "stop");
        assert_string_equal(job_status_word('t'), "stop");
        assert_string_equal(job_status_word('I'), "idle");
        assert_string_equal(job_status_word('Z'), "zombie");
        assert_string_equal(job_status_word('X'), JOB_HALTED);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_alive),
                cmocka_unit_test(test_halted),
                cmocka_unit_test(test_words),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
