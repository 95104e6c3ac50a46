/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/job_status.h"
#include "process/proc.h"
#include "process/state.h"

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

/** The same word as the state of a process has in a query: there is one table. */
static void test_words(void **state) {
        static const struct {
                char letter;
                const char *word;
        } rows[] = {
                { 'R', "running" }, { 'S', "sleep" },  { 'D', "disk-sleep" }, { 'T', "stop" },    { 't', "stop" },
                { 'I', "idle" },    { 'Z', "zombie" }, { 'X', "dead" },       { '?', "unknown" },
        };

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                assert_string_equal(process_state_word(rows[i].letter), rows[i].word);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_alive),
                cmocka_unit_test(test_halted),
                cmocka_unit_test(test_words),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
