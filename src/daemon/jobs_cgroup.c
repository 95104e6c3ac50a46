/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Cgroups of jobs that were not started or restored after all. What a killed worker has left in them is ended by CRIU,
 * or by us: a process that was restored, and of which there is no record yet, is nobody's.
 */

#include <errno.h>
#include <stdlib.h>

#include <stasis/log.h>

#include "base/clock.h"
#include "base/memory.h"
#include "daemon/jobs_private.h"
#include "engine/job_cgroup.h"

/* CRIU is given as long to end what it has half restored (engine/restore_criu.c). */
#define PATIENCE_MS 30000

struct emptying {
        struct emptying *next;
        char *jid;
        uint64_t since_ms;
        int64_t operation; /* when it began */
};

static void emptying_free(struct emptying *emptying) {
        free(emptying->jid);
        free(emptying);
}

void jobs_empty_cgroup(struct jobs *jobs, const char *jid, int64_t since) {
        struct emptying *emptying;

        if (job_cgroup_remove(jid) != -EBUSY)
                return;
        emptying = NEW(struct emptying);
        emptying->jid = xstrdup(jid);
        emptying->since_ms = clock_ms();
        emptying->operation = since;
        emptying->next = jobs->emptying;
        jobs->emptying = emptying;
        jobs_settle_soon(jobs);
}

/** A new life of the job: the cgroup is in use, or soon is. */
static bool is_wanted(struct jobs *jobs, const char *jid) {
        Stasis__V1__JobState state;

        return workers_have_job(jobs->workers, jid) ||
               (jobs_state(jobs, jid, &state) >= 0 && job_state_is_alive(state));
}

size_t jobs_settle_cgroups(struct jobs *jobs) {
        struct emptying **at = &jobs->emptying;
        size_t n = 0;

        while (*at) {
                struct emptying *emptying = *at;
                bool busy = !is_wanted(jobs, emptying->jid) && job_cgroup_remove(emptying->jid) == -EBUSY;

                if (busy && clock_ms() < emptying->since_ms + PATIENCE_MS) {
                        job_cgroup_kill(emptying->jid, emptying->operation);
                        at = &emptying->next;
                        n++;
                        continue;
                }
                if (busy)
                        st_log_warning("the cgroup of job %s is kept: there is something in it", emptying->jid);
                *at = emptying->next;
                emptying_free(emptying);
        }
        return n;
}

void jobs_clear_cgroups(struct jobs *jobs) {
        while (jobs->emptying) {
                struct emptying *emptying = jobs->emptying;

                jobs->emptying = emptying->next;
                emptying_free(emptying);
        }
}
