/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/supervisors.h"

#include <dirent.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/spawn.h"
#include "base/text.h"
#include "process/proc.h"
#include "supervisor/status.h"

struct supervised {
        struct supervisors *supervisors;
        struct supervised *next;
        char *id;
        struct supervisor_status status;
        int pidfd;
        sd_event_source *source;
};

struct supervisors {
        sd_event *loop;
        struct supervised *list;
};

static void supervised_free(struct supervised *supervised) {
        sd_event_source_disable_unref(supervised->source);
        if (supervised->pidfd >= 0)
                close(supervised->pidfd);
        free(supervised->id);
        free(supervised);
}

int supervisors_new(sd_event *loop, struct supervisors **ret, struct st_error **err) {
        struct supervisors *supervisors = NEW(struct supervisors);
        _cleanup_free_ char *jobs = path_join(path_run_dir(), "jobs");
        int r = io_make_directories(jobs, 0700);

        if (r < 0) {
                free(supervisors);
                return st_error_errno(err, r, "cannot make %s", jobs);
        }
        supervisors->loop = sd_event_ref(loop);
        *ret = supervisors;
        return 0;
}

struct supervisors *supervisors_free(struct supervisors *supervisors) {
        if (!supervisors)
                return NULL;
        for (struct supervised *next, *at = supervisors->list; at; at = next) {
                next = at->next;
                supervised_free(at);
        }
        sd_event_unref(supervisors->loop);
        free(supervisors);
        return NULL;
}

/** Says how it ended, then removes the record. */
static void conclude(const char *id, const struct supervisor_status *status) {
        _cleanup_free_ char *dir = xasprintf("%s/jobs/%s", path_run_dir(), id);

        if (status->exited) {
                _cleanup_free_ char *how = spawn_describe_status(status->exit_status);
                st_log_info("restored process %d (%s) %s", status->pid, id, how);
        } else
                st_log_warning("restored process %d (%s) lost its supervisor: how it ended is not known", status->pid,
                               id);
        (void)io_remove_tree(dir);
}

static int on_supervisor_end(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct supervised *supervised = userdata;
        _cleanup_free_ char *dir = xasprintf("%s/jobs/%s", path_run_dir(), supervised->id);
        struct supervised **at = &supervised->supervisors->list;

        (void)source;
        (void)fd;
        (void)events;
        (void)supervisor_status_read(dir, &supervised->status);
        conclude(supervised->id, &supervised->status);
        while (*at != supervised)
                at = &(*at)->next;
        *at = supervised->next;
        supervised_free(supervised);
        return 0;
}

static bool is_known(const struct supervisors *supervisors, const char *id) {
        for (const struct supervised *at = supervisors->list; at; at = at->next)
                if (streq(at->id, id))
                        return true;
        return false;
}

/** Watches a supervisor, whoever started it. @return -ESRCH when it is not there any more */
static int watch(struct supervisors *supervisors, const char *id, const struct supervisor_status *status) {
        struct supervised *supervised;
        int pidfd, r;

        if (!streq(status->boot, proc_boot_id()))
                return -ESRCH;
        pidfd = pidfd_open(status->supervisor, 0);
        if (pidfd < 0)
                return -errno;
        if (!proc_is_alive(status->supervisor, status->supervisor_start)) {
                close(pidfd);
                return -ESRCH;
        }
        supervised = NEW(struct supervised);
        supervised->supervisors = supervisors;
        supervised->id = xstrdup(id);
        supervised->status = *status;
        supervised->pidfd = pidfd;
        r = sd_event_add_io(supervisors->loop, &supervised->source, pidfd, EPOLLIN, on_supervisor_end, supervised);
        if (r < 0) {
                supervised_free(supervised);
                return r;
        }
        supervised->next = supervisors->list;
        supervisors->list = supervised;
        return 0;
}

void supervisors_scan(struct supervisors *supervisors) {
        _cleanup_free_ char *jobs = path_join(path_run_dir(), "jobs");
        _cleanup_closedir_ DIR *d = opendir(jobs);
        struct dirent *entry;

        while (d && (entry = readdir(d))) {
                struct supervisor_status status;
                _cleanup_free_ char *dir = path_join(jobs, entry->d_name);

                if (entry->d_name[0] == '.' || is_known(supervisors, entry->d_name))
                        continue;
                if (supervisor_status_read(dir, &status) < 0)
                        continue; /* its supervisor is just starting */
                int r = watch(supervisors, entry->d_name, &status);
                if (r >= 0)
                        continue;
                if (r != -ESRCH) {
                        /* It may live: the record must stay. */
                        st_log_error("cannot watch the supervisor of process %d: %s", status.pid, strerror(-r));
                        continue;
                }
                /* It may have written its last word while we looked. */
                (void)supervisor_status_read(dir, &status);
                conclude(entry->d_name, &status);
        }
}

void supervisors_status(const struct supervisors *supervisors, Stasis__V1__StatusResp *resp) {
        for (const struct supervised *at = supervisors->list; at; at = at->next) {
                Stasis__V1__Operation *operation = message_new(&stasis__v1__operation__descriptor);

                operation->id = xstrdup(at->id);
                operation->kind = xstrdup("supervisor");
                operation->target = xasprintf("process %d", at->status.pid);
                operation->has_pid = operation->has_started = 1;
                operation->pid = (uint32_t)at->status.pid;
                operation->started = (uint64_t)at->status.time;
                message_append(&resp->n_supervisors, &resp->supervisors, operation);
        }
}
