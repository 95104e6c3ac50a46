/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/supervisors.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/spawn.h"
#include "base/text.h"
#include "process/proc.h"

/* A packed JobSpec; it holds a command line. */
#define SPEC_MAX ((size_t)16 << 20)

/* A record without a status is of a supervisor that is just starting, or of a worker that died before it was one. */
#define INFANT_MAX_MS 30000

struct supervised {
        struct supervisors *supervisors;
        struct supervised *next;
        struct record record;
        char *id, *jid;
        bool complete; /* it has a status */
        bool settled;
        bool told; /* its end was logged */
        uint64_t born_ms;
        int pidfd;
        sd_event_source *end, *change;
};

struct supervisors {
        sd_event *loop;
        sd_event_source *arrival;
        int lock; /* the directory of the records: one daemon for each */
        struct supervised *list;
        supervisors_settle_fn settle;
        void *userdata;
};

char *supervisors_directory(const char *id) {
        return xasprintf("%s/jobs/%s", path_run_dir(), id);
}

static void supervised_free(struct supervised *supervised) {
        struct supervised **at = &supervised->supervisors->list;

        while (*at && *at != supervised)
                at = &(*at)->next;
        if (*at)
                *at = supervised->next;
        sd_event_source_disable_unref(supervised->end);
        sd_event_source_disable_unref(supervised->change);
        if (supervised->pidfd >= 0)
                close(supervised->pidfd);
        free(supervised->id);
        free(supervised->jid);
        free(supervised);
}

struct supervisors *supervisors_free(struct supervisors *supervisors) {
        if (!supervisors)
                return NULL;
        while (supervisors->list)
                supervised_free(supervisors->list);
        sd_event_source_disable_unref(supervisors->arrival);
        sd_event_unref(supervisors->loop);
        if (supervisors->lock >= 0)
                close(supervisors->lock);
        free(supervisors);
        return NULL;
}

void supervisors_set_settle(struct supervisors *supervisors, supervisors_settle_fn settle, void *userdata) {
        supervisors->settle = settle;
        supervisors->userdata = userdata;
}

static Stasis__V1__JobSpec *read_spec(const char *id, const char *name) {
        _cleanup_free_ char *path = xasprintf("%s/jobs/%s/%s", path_run_dir(), id, name), *data = NULL;
        size_t size;

        if (io_read_file(AT_FDCWD, path, SPEC_MAX, &data, &size) < 0)
                return NULL;
        return stasis__v1__job_spec__unpack(NULL, size, (const uint8_t *)data);
}

Stasis__V1__JobSpec *supervisors_read_spec(const char *id) {
        return read_spec(id, RECORD_JOB);
}

int supervisors_disown(struct supervisors *supervisors, const char *id) {
        _cleanup_free_ char *path = xasprintf("%s/jobs/%s/" RECORD_JOB, path_run_dir(), id);
        _cleanup_free_ char *over = xasprintf("%s/jobs/%s/" RECORD_JOB_OVER, path_run_dir(), id);

        if (rename(path, over) < 0 && errno != ENOENT)
                return -errno;
        for (struct supervised *at = supervisors->list; at; at = at->next)
                if (streq(at->id, id))
                        at->record.over = true;
        return 0;
}

static void read_jid(struct supervised *supervised) {
        _cleanup_(message_freep) Stasis__V1__JobSpec *spec = supervisors_read_spec(supervised->id);

        if (!spec) {
                spec = read_spec(supervised->id, RECORD_JOB_OVER);
                supervised->record.over = supervised->told = spec;
        }
        if (!spec || isempty(spec->jid))
                return;
        free(supervised->jid);
        supervised->jid = xstrdup(spec->jid);
        supervised->record.jid = supervised->jid;
}

static void log_end(struct supervised *supervised) {
        const struct supervisor_status *status = &supervised->record.status;
        const char *what = supervised->jid ? "job" : "restored process", *name = supervised->jid ?: "";

        if (supervised->told || (!status->exited && !supervised->record.gone))
                return;
        supervised->told = true;
        if (status->exited) {
                _cleanup_free_ char *how = spawn_describe_status(status->exit_status);
                st_log_info("%s %s%s%d (%s) %s", what, name, *name ? ", process " : "", status->pid, supervised->id,
                            how);
        } else
                st_log_warning("%s %s%s%d (%s) lost its supervisor", what, name, *name ? ", process " : "", status->pid,
                               supervised->id);
}

/** Half of a record would look like one of a supervisor that is just starting: hidden first, as a whole. */
static void remove_record(const char *id) {
        _cleanup_free_ char *dir = supervisors_directory(id), *hidden = xasprintf("%s/jobs/.%s", path_run_dir(), id);

        (void)io_remove_tree(rename(dir, hidden) < 0 ? dir : hidden);
}

/** Tells what is in it; removes it when nobody needs it any more. Frees it then. */
static void settle(struct supervised *supervised) {
        struct supervisors *supervisors = supervised->supervisors;

        log_end(supervised);
        supervised->settled =
                !supervisors->settle || supervisors->settle(&supervised->record, supervisors->userdata) >= 0;
        if (!supervised->settled || !supervised->record.gone)
                return;

        remove_record(supervised->id);
        supervised_free(supervised);
}

static int on_supervisor_end(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct supervised *supervised = userdata;
        _cleanup_free_ char *dir = supervisors_directory(supervised->id);

        (void)source;
        (void)fd;
        (void)events;
        supervised->end = sd_event_source_disable_unref(supervised->end);
        /* Its last word. */
        (void)supervisor_status_read(dir, &supervised->record.status);
        supervised->record.gone = true;
        settle(supervised);
        return 0;
}

/** Watches the supervisor, whoever started it. @return -ESRCH when it is not there any more */
static int watch_supervisor(struct supervised *supervised) {
        const struct supervisor_status *status = &supervised->record.status;

        if (!streq(status->boot, proc_boot_id()))
                return -ESRCH;
        supervised->pidfd = pidfd_open(status->supervisor, 0);
        if (supervised->pidfd < 0)
                return -errno;
        if (!proc_is_alive(status->supervisor, status->supervisor_start))
                return -ESRCH;
        return sd_event_add_io(supervised->supervisors->loop, &supervised->end, supervised->pidfd, EPOLLIN,
                               on_supervisor_end, supervised);
}

/** Its status is there for the first time. @return false: it is left, and the next scan looks again */
static bool complete(struct supervised *supervised) {
        _cleanup_free_ char *dir = supervisors_directory(supervised->id);
        int r = watch_supervisor(supervised);

        if (r == -ESRCH) {
                /* It may have written its last word while we looked. */
                (void)supervisor_status_read(dir, &supervised->record.status);
                supervised->record.gone = true;
        } else if (r < 0) {
                /* It may live: the record must stay. */
                st_log_error("cannot watch the supervisor of process %d: %s", supervised->record.status.pid,
                             strerror(-r));
                if (supervised->pidfd >= 0)
                        close(TAKE_FD(supervised->pidfd));
                return false;
        }
        supervised->complete = true;
        return true;
}

static struct supervised *find(const struct supervisors *supervisors, const char *id) {
        for (struct supervised *at = supervisors->list; at; at = at->next)
                if (streq(at->id, id))
                        return at;
        return NULL;
}

/** Reads its status again and tells. May free it. @return false: it is freed, or has no status yet */
static bool refresh(struct supervised *supervised) {
        struct supervisors *supervisors = supervised->supervisors;
        _cleanup_free_ char *id = xstrdup(supervised->id), *dir = supervisors_directory(id);
        struct supervisor_status status;

        if (supervisor_status_read(dir, &status) >= 0)
                supervised->record.status = status;
        else if (!supervised->complete)
                return false;
        if (!supervised->complete) {
                read_jid(supervised);
                if (!complete(supervised))
                        return false;
        }
        settle(supervised);
        return find(supervisors, id) == supervised;
}

static int on_change(sd_event_source *source, const struct inotify_event *event, void *userdata) {
        (void)source;
        (void)event;
        (void)refresh(userdata);
        return 0;
}

static bool is_listed(const struct supervisors *supervisors, const struct supervised *supervised) {
        for (const struct supervised *at = supervisors->list; at; at = at->next)
                if (at == supervised)
                        return true;
        return false;
}

static struct supervised *supervised_new(struct supervisors *supervisors, const char *id) {
        _cleanup_free_ char *dir = supervisors_directory(id);
        struct supervised *supervised = NEW(struct supervised);
        int r;

        supervised->supervisors = supervisors;
        supervised->id = xstrdup(id);
        supervised->record.id = supervised->id;
        supervised->pidfd = -EBADF;
        supervised->born_ms = clock_ms();
        r = sd_event_add_inotify(supervisors->loop, &supervised->change, dir, IN_MOVED_TO | IN_ONLYDIR, on_change,
                                 supervised);
        if (r < 0)
                /* Its end is told by the supervisor's, and by what looks at all records from time to time. */
                st_log_warning("cannot watch the record %s: %s", dir, strerror(-r));
        supervised->next = supervisors->list;
        supervisors->list = supervised;
        return supervised;
}

static bool is_directory(const char *id) {
        _cleanup_free_ char *dir = supervisors_directory(id);
        struct stat st;

        return path_is_name(id) && lstat(dir, &st) == 0 && S_ISDIR(st.st_mode);
}

const struct record *supervisors_look(struct supervisors *supervisors, const char *id) {
        struct supervised *supervised = find(supervisors, id);

        if (!supervised && is_directory(id))
                supervised = supervised_new(supervisors, id);
        return supervised && refresh(supervised) ? &find(supervisors, id)->record : NULL;
}

const struct record *supervisors_find(struct supervisors *supervisors, const char *id) {
        struct supervised *supervised = find(supervisors, id);

        return supervised ? &supervised->record : NULL;
}

void supervisors_scan(struct supervisors *supervisors) {
        _cleanup_free_ char *jobs = path_join(path_run_dir(), "jobs");
        _cleanup_closedir_ DIR *d = opendir(jobs);
        struct dirent *entry;

        while (d && (entry = readdir(d))) {
                if (entry->d_name[0] != '.') {
                        if (!find(supervisors, entry->d_name))
                                (void)supervisors_look(supervisors, entry->d_name);
                } else if (path_is_name(entry->d_name)) {
                        /* A daemon died in the middle of remove_record(). */
                        _cleanup_free_ char *half = path_join(jobs, entry->d_name);
                        (void)io_remove_tree(half);
                }
        }
}

static int on_arrival(sd_event_source *source, const struct inotify_event *event, void *userdata) {
        (void)source;
        if (event->mask & IN_Q_OVERFLOW)
                supervisors_scan(userdata);
        else if (event->len > 0 && event->name[0] != '.')
                (void)supervisors_look(userdata, event->name);
        return 0;
}

/** Two daemons would take over each other's jobs. The directory itself is locked: no file of ours is in it. */
static int lock_records(struct supervisors *supervisors, const char *jobs, struct st_error **err) {
        int r = io_make_directories(jobs, 0700);

        if (r < 0)
                return st_error_errno(err, r, "cannot make %s", jobs);
        supervisors->lock = open(jobs, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (supervisors->lock < 0)
                return st_error_errno(err, errno, "cannot open %s", jobs);
        if (flock(supervisors->lock, LOCK_EX | LOCK_NB) >= 0)
                return 0;
        if (errno != EWOULDBLOCK)
                return st_error_errno(err, errno, "cannot lock %s", jobs);
        st_error_set(err, EADDRINUSE, "another daemon, with another socket, keeps its jobs in %s", path_run_dir());
        st_error_hint(err, "give each daemon a directory of its own with STASIS_RUN_DIR");
        return -EADDRINUSE;
}

int supervisors_new(sd_event *loop, struct supervisors **ret, struct st_error **err) {
        struct supervisors *supervisors = NEW(struct supervisors);
        _cleanup_free_ char *jobs = path_join(path_run_dir(), "jobs");
        int r;

        supervisors->loop = sd_event_ref(loop);
        supervisors->lock = -EBADF;
        r = lock_records(supervisors, jobs, err);
        if (r >= 0) {
                r = sd_event_add_inotify(loop, &supervisors->arrival, jobs, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR,
                                         on_arrival, supervisors);
                if (r < 0)
                        st_error_errno(err, r, "cannot watch %s", jobs);
                if (r == -ENOSPC)
                        st_error_hint(err, "raise the limit of watches: sysctl fs.inotify.max_user_watches");
        }
        if (r < 0) {
                supervisors_free(supervisors);
                return r;
        }
        *ret = supervisors;
        return 0;
}

/** What a worker left that died on its way to become a supervisor. @return whether it was that, and is gone */
static bool drop_infant(struct supervised *supervised) {
        _cleanup_free_ char *dir = supervisors_directory(supervised->id);
        struct supervisor_status status;

        if (is_directory(supervised->id) &&
            (clock_ms() < supervised->born_ms + INFANT_MAX_MS || supervisor_status_read(dir, &status) != -ENOENT))
                return false;
        remove_record(supervised->id);
        supervised_free(supervised);
        return true;
}

size_t supervisors_settle_all(struct supervisors *supervisors) {
        size_t unsettled = 0;

        for (struct supervised *next, *at = supervisors->list; at; at = next) {
                bool was_complete = at->complete;

                next = at->next;
                if (refresh(at))
                        unsettled += !at->settled;
                else if (!was_complete && is_listed(supervisors, at)) /* it may be freed */
                        unsettled += !drop_infant(at);
        }
        return unsettled;
}

const struct record *supervisors_find_pid(struct supervisors *supervisors, pid_t pid) {
        const struct record *found = NULL;

        for (const struct supervised *at = supervisors->list; at; at = at->next)
                if (at->complete && at->record.status.pid == pid &&
                    (!found || at->record.status.start_time >= found->status.start_time))
                        found = &at->record;
        return found;
}

void supervisors_status(const struct supervisors *supervisors, Stasis__V1__StatusResp *resp) {
        for (const struct supervised *at = supervisors->list; at; at = at->next) {
                if (!at->complete)
                        continue;
                Stasis__V1__Operation *operation = message_new(&stasis__v1__operation__descriptor);

                operation->id = xstrdup(at->id);
                operation->kind = xstrdup("supervisor");
                operation->target = at->jid ? xasprintf("job %s, process %d", at->jid, at->record.status.pid)
                                            : xasprintf("process %d", at->record.status.pid);
                operation->has_pid = operation->has_started = 1;
                operation->pid = (uint32_t)at->record.status.pid;
                operation->started = (uint64_t)at->record.status.time;
                message_append(&resp->n_supervisors, &resp->supervisors, operation);
        }
}
