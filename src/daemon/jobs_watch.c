/* SPDX-License-Identifier: Apache-2.0 */

/* Jobs that no supervisor looks after: those that were managed, and those whose supervisor was killed. */

#include <sys/pidfd.h>
#include <sys/wait.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "daemon/jobs_private.h"
#include "process/proc.h"

struct watched {
        struct jobs *jobs;
        struct watched *next;
        char *jid;
        pid_t pid;
        uint64_t start_time;
        int pidfd;
        sd_event_source *end;
};

static void watched_free(struct watched *watched) {
        struct watched **at = &watched->jobs->watched;

        while (*at && *at != watched)
                at = &(*at)->next;
        if (*at)
                *at = watched->next;
        sd_event_source_disable_unref(watched->end);
        if (watched->pidfd >= 0)
                close(watched->pidfd);
        free(watched->jid);
        free(watched);
}

void jobs_watch_clear(struct jobs *jobs) {
        while (jobs->watched)
                watched_free(jobs->watched);
}

bool jobs_is_watched(const struct jobs *jobs, const char *jid) {
        for (const struct watched *at = jobs->watched; at; at = at->next)
                if (streq(at->jid, jid))
                        return true;
        return false;
}

/** @param status -1: nobody knows */
static void ended(struct watched *watched, int status) {
        struct jobs *jobs = watched->jobs;
        _cleanup_free_ char *jid = TAKE_PTR(watched->jid);
        pid_t pid = watched->pid;
        uint64_t start_time = watched->start_time;
        struct db_job job;

        watched->jid = xstrdup("");
        watched_free(watched);
        if (db_job_get(jobs->db, jid, &job, NULL) < 0)
                return;
        if (job.state == STASIS__V1__JOB_STATE__RUNNING && job.pid == pid && job.start_time == start_time &&
            jobs_conclude(jobs, &job, status, NULL) < 0)
                jobs_settle_soon(jobs);
        db_job_clear(&job);
}

static int on_end(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct watched *watched = userdata;
        int status;

        (void)source;
        (void)fd;
        (void)events;
        /* An orphan of a supervisor that was killed is our child. */
        ended(watched, waitpid(watched->pid, &status, WNOHANG) == watched->pid ? status : -1);
        return 0;
}

int jobs_watch(struct jobs *jobs, const char *jid, pid_t pid, uint64_t start_time) {
        struct watched *watched;
        int pidfd, r;

        pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
        if (pidfd < 0)
                return pid > 0 ? -errno : -ESRCH;
        if (!proc_is_alive(pid, start_time)) {
                close(pidfd);
                return -ESRCH;
        }
        watched = NEW(struct watched);
        watched->jobs = jobs;
        watched->jid = xstrdup(jid);
        watched->pid = pid;
        watched->start_time = start_time;
        watched->pidfd = pidfd;
        watched->next = jobs->watched;
        jobs->watched = watched;
        r = sd_event_add_io(jobs->loop, &watched->end, pidfd, EPOLLIN, on_end, watched);
        if (r < 0) {
                st_log_error("cannot watch process %d of job %s: %s", pid, jid, strerror(-r));
                watched_free(watched);
                return r;
        }
        return 0;
}

void jobs_child_ended(struct jobs *jobs, pid_t pid, int status) {
        checkpoints_child_ended(jobs, pid, status);
        for (struct watched *at = jobs->watched; at; at = at->next)
                if (at->pid == pid) {
                        ended(at, status);
                        return;
                }
}
