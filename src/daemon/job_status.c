/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/job_status.h"

#include "base/text.h"
#include "process/parse.h"
#include "process/proc.h"
#include "process/state.h"

const char *job_status(const struct db_job *job) {
        struct proc_stat stat;

        if (!job_state_is_alive(job->state) || job->pid <= 0 || !job->boot || !streq(job->boot, proc_boot_id()))
                return JOB_HALTED;
        if (proc_read_stat(job->pid, &stat) < 0 || stat.start_time != job->start_time)
                return JOB_HALTED;
        /* Dead ones will be gone in a moment. */
        return proc_stat_is_dead(&stat) && stat.state != 'Z' ? JOB_HALTED : process_state_word(stat.state);
}
