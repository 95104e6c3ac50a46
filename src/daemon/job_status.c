/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/job_status.h"

#include "base/text.h"
#include "process/proc.h"

const char *job_status_word(char state) {
        switch (state) {
        case 'R':
                return "running";
        case 'S':
                return "sleep";
        case 'D':
                return "disk-sleep";
        case 'T':
        case 't':
                return "stop";
        case 'I':
                return "idle";
        case 'Z':
                return "zombie";
        default:
                return JOB_HALTED; /* dead: it will be gone in a moment */
        }
}

const char *job_status(const struct db_job *job) {
        struct proc_stat stat;

        if (!job_state_is_alive(job->state) || job->pid <= 0 || !job->boot || !streq(job->boot, proc_boot_id()))
                return JOB_HALTED;
        if (proc_read_stat(job->pid, &stat) < 0 || stat.start_time != job->start_time)
                return JOB_HALTED;
        return job_status_word(stat.state);
}
