/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The adapter of the restore that puts a job into its cgroup: CRIU is started in it, and what it restores begins there.
 * So it is on another machine, too. A checkpoint whose processes had further cgroups of their own says so (mode soft or
 * more): then CRIU moves them there.
 */

#include "base/cleanup.h"
#include "engine/job_cgroup.h"
#include "engine/operation.h"
#include "engine/restore_context.h"

int restore_cgroup(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        const Stasis__V1__JobSpec *job = operation_job(restore->operation);
        struct restore_context *context = restore_context(restore);
        _cleanup_error_ struct st_error *problem = NULL;
        int r;

        if (!job || isempty(job->jid))
                return st_restore_proceed(next, restore, err);
        if (job_cgroup_make(job->jid, &context->cgroups, &problem) < 0)
                st_restore_message(restore, "the job has no cgroup of its own: %s", st_error_message(problem));
        r = st_restore_proceed(next, restore, err);
        if (r < 0)
                (void)job_cgroup_remove(job->jid);
        return r;
}
