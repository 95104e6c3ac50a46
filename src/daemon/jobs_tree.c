/* SPDX-License-Identifier: Apache-2.0 */

/* The processes of a job, beyond the one that it is watched by. */

#include "daemon/jobs_private.h"
#include "engine/job_cgroup.h"
#include "process/proc.h"
#include "process/tree_kill.h"

/** A restore that failed has taken the record from the job, but not what it says of the job's last process. */
static const struct record *find_record(struct jobs *jobs, const struct db_job *job) {
        const struct record *record = job->record ? supervisors_find(jobs->supervisors, job->record)
                                                  : supervisors_find_pid(jobs->supervisors, job->pid);

        return record && record->status.pid == job->pid && record->status.start_time == job->start_time &&
                               streq(record->status.boot, proc_boot_id())
                       ? record
                       : NULL;
}

size_t jobs_kill_tree(struct jobs *jobs, const struct db_job *job) {
        const struct record *record = find_record(jobs, job);
        size_t killed = 0;

        if (!streq(job->spec->type, "process"))
                return 0;
        if (record)
                killed = tree_kill(record->status.supervisor, record->status.supervisor_start, false);
        /* One that has no supervisor, or has it no more. */
        if (job->pid > 0 && job->boot && streq(job->boot, proc_boot_id()))
                killed += tree_kill(job->pid, job->start_time, true);
        job_cgroup_thaw(job->spec->jid);
        return killed;
}
