/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/workers.h"

#include <sys/random.h>
#include <time.h>

#include <jansson.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/options.h"
#include "base/path.h"
#include "daemon/workers_private.h"
#include "engine/work_dir.h"

#define CLEAN_EVERY_US 200000
#define PATIENCE_MAX_S 86400
#define HEAVY_PER_CORE 2

bool worker_is_heavy(const struct worker *worker) {
        return worker->task.kind == STASIS__WORKER__OPERATION_KIND__DUMP ||
               worker->task.kind == STASIS__WORKER__OPERATION_KIND__RESTORE;
}

uint64_t workers_now_usec(const struct workers *workers) {
        uint64_t now = 0;

        (void)sd_event_now(workers->loop, CLOCK_MONOTONIC, &now);
        return now;
}

/* IDs name records, which outlive a daemon: the next one, maybe in the same second, must not use one again. */
static unsigned first_sequence(void) {
        unsigned number;

        if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number))
                number = (unsigned)getpid();
        return number % 1000000;
}

static size_t heavy_max(void) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);

        return HEAVY_PER_CORE * (size_t)(cores > 0 ? cores : 1);
}

/** Is an operation on the same job before it? */
static bool has_predecessor(const struct worker *worker) {
        for (const struct worker *at = worker->workers->list; worker->task.jid && at != worker; at = at->next)
                if (at->task.jid && streq(at->task.jid, worker->task.jid))
                        return true;
        return false;
}

static bool may_begin(const struct worker *worker) {
        const struct workers *workers = worker->workers;

        return (worker_is_heavy(worker) ? workers->heavy < workers->heavy_max : workers->light < WORKERS_LIGHT_MAX) &&
               !has_predecessor(worker);
}

void workers_kick(struct workers *workers) {
        (void)sd_event_source_set_enabled(workers->turn, SD_EVENT_ONESHOT);
}

/** Ends or begins one that is queued. @return whether there was one; the list may then be another */
static bool take_turn(struct workers *workers) {
        for (struct worker *worker = workers->list; worker; worker = worker->next) {
                struct st_error *error = NULL;

                if (!worker->queued)
                        continue;
                if (worker->cancelled)
                        st_error_set(&error, worker->cancelled, "cancelled while it waited for other operations");
                else if (!may_begin(worker))
                        continue;
                else if (worker_launch(worker, &error) >= 0)
                        return true;
                worker_end(worker, error);
                return true;
        }
        return false;
}

static int on_turn(sd_event_source *source, void *userdata) {
        (void)source;
        while (take_turn(userdata))
                ;
        return 0;
}

/** Whoever still uses them is maybe no child of ours, whose end we would be told: so they are looked at again. */
static void clean_later(struct workers *workers) {
        if (workers->stale.n == 0)
                return;
        (void)sd_event_source_set_time_relative(workers->timer, CLEAN_EVERY_US);
        (void)sd_event_source_set_enabled(workers->timer, SD_EVENT_ONESHOT);
}

static void clean_stale(struct workers *workers) {
        struct strv still = { 0 };

        for (size_t i = 0; i < workers->stale.n; i++)
                if (work_dir_clean(workers->stale.items[i]) == -EBUSY)
                        strv_add(&still, workers->stale.items[i]);
        strv_clear(&workers->stale);
        workers->stale = still;
        clean_later(workers);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        (void)source;
        (void)usec;
        clean_stale(userdata);
        return 0;
}

int workers_new(sd_event *loop, const struct st_arguments *config, struct workers **ret, struct st_error **err) {
        const char *level = st_arguments_string(config, "LogLevel");
        int64_t patience = st_arguments_int(config, "Cancel.KillAfter");
        enum st_log_level log_level;
        struct workers *workers;
        json_t *json;

        if (logger_level_from_text(level, &log_level) < 0)
                return st_error_set(err, EINVAL, "LogLevel: unknown level %s", level);
        if (patience < 1 || patience > PATIENCE_MAX_S)
                return st_error_set(err, EINVAL, "Cancel.KillAfter must be 1 to %d seconds", PATIENCE_MAX_S);
        workers = NEW(struct workers);
        workers->log_level = (int)log_level;
        workers->tail = &workers->list;
        workers->heavy_max = heavy_max();
        workers->sequence = first_sequence();
        json = arguments_to_json(config);
        int r = sd_event_add_time_relative(loop, &workers->timer, CLOCK_MONOTONIC, 0, 0, on_timer, workers);
        if (r >= 0)
                r = sd_event_source_set_enabled(workers->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_defer(loop, &workers->turn, on_turn, workers);
        if (r >= 0)
                r = sd_event_source_set_enabled(workers->turn, SD_EVENT_OFF);
        if (r < 0) {
                json_decref(json);
                sd_event_source_disable_unref(workers->timer);
                sd_event_source_disable_unref(workers->turn);
                free(workers);
                return st_error_errno(err, r, "cannot make a timer");
        }
        workers->loop = sd_event_ref(loop);
        workers->config = json_dumps(json, JSON_COMPACT);
        json_decref(json);
        workers->patience_us = (uint64_t)patience * 1000000;
        *ret = workers;
        return 0;
}

struct workers *workers_free(struct workers *workers) {
        if (!workers)
                return NULL;
        while (workers->list) {
                if (workers->list->events.forget)
                        workers->list->events.forget(workers->list->userdata);
                worker_free(workers->list);
        }
        sd_event_source_disable_unref(workers->timer);
        sd_event_source_disable_unref(workers->turn);
        strv_clear(&workers->stale);
        sd_event_unref(workers->loop);
        free(workers->config);
        free(workers);
        return NULL;
}

void workers_set_limit_nofile(struct workers *workers, const struct rlimit *limit) {
        workers->has_limit = true;
        workers->limit_nofile = *limit;
}

void workers_clean_stale(struct workers *workers) {
        work_dir_clean_stale(&workers->stale);
        clean_later(workers);
}

void workers_child_ended(struct workers *workers, pid_t pid, int status) {
        for (struct worker *worker = workers->list; worker; worker = worker->next)
                if (!worker->queued && worker->pid == pid) {
                        worker->exited = true;
                        worker->status = status;
                        worker_check_end(worker);
                        break;
                }
        clean_stale(workers);
}

size_t workers_queued(const struct workers *workers) {
        size_t n = 0;

        for (const struct worker *worker = workers->list; worker; worker = worker->next)
                n += worker->queued;
        return n;
}

void workers_on_end(struct workers *workers, void (*ended)(const struct worker_ended *ended, void *userdata),
                    void *userdata) {
        workers->ended = ended;
        workers->ended_userdata = userdata;
}

struct worker *workers_start(struct workers *workers, struct worker_task *task, const struct worker_events *events,
                             void *userdata) {
        struct worker *worker = NEW(struct worker);

        worker->workers = workers;
        worker->link = workers->tail;
        *workers->tail = worker;
        workers->tail = &worker->next;
        workers->n++;

        worker->id = xasprintf("%llx-%u", (unsigned long long)time(NULL), ++workers->sequence);
        worker->task = *task;
        *task = (struct worker_task){ .kind = task->kind };
        worker->queued = true;
        worker->started = time(NULL);
        worker->started_usec = workers_now_usec(workers);
        worker->pidfd = worker->socket = -EBADF;
        worker->events = *events;
        worker->userdata = userdata;
        worker->profile = message_new(&stasis__v1__profile__descriptor);
        workers_kick(workers);
        return worker;
}

static void cancel(struct worker *worker, int number) {
        if (!worker->queued) {
                worker_tell(worker, number);
                return;
        }
        worker->cancelled = number;
        workers_kick(worker->workers);
}

const char *worker_id(const struct worker *worker) {
        return worker->id;
}

int workers_cancel(struct workers *workers, const char *id, int number, struct st_error **err) {
        for (struct worker *worker = workers->list; worker; worker = worker->next) {
                if (!streq(worker->id, id))
                        continue;
                cancel(worker, number);
                return 0;
        }
        return st_error_set(err, ENOENT, "no operation %s is running", id);
}

void workers_cancel_all(struct workers *workers) {
        for (struct worker *worker = workers->list; worker; worker = worker->next)
                if (worker->queued || (worker->task.kind != STASIS__WORKER__OPERATION_KIND__RESTORE &&
                                       worker->task.kind != STASIS__WORKER__OPERATION_KIND__RUN))
                        cancel(worker, ECANCELED);
}

size_t workers_count(const struct workers *workers) {
        return workers->n;
}

bool workers_have_job(const struct workers *workers, const char *jid) {
        for (const struct worker *worker = workers->list; worker; worker = worker->next)
                if (worker->task.jid && streq(worker->task.jid, jid))
                        return true;
        return false;
}

bool workers_have_stale_job(const struct workers *workers, const char *jid) {
        for (size_t i = 0; i < workers->stale.n; i++) {
                _cleanup_free_ char *path = path_join(workers->stale.items[i], WORK_DIR_JOB);
                _cleanup_free_ char *text = io_read_line(path);

                if (text && streq(text, jid))
                        return true;
        }
        return false;
}

bool workers_have_work_dir(const struct workers *workers, const char *name) {
        for (const struct worker *worker = workers->list; worker; worker = worker->next)
                if (worker->work_dir && streq(path_name(worker->work_dir), name))
                        return true;
        return false;
}

bool workers_have_stale_work_dir(const struct workers *workers, const char *name) {
        for (size_t i = 0; i < workers->stale.n; i++)
                if (streq(path_name(workers->stale.items[i]), name))
                        return true;
        return false;
}

void workers_status(const struct workers *workers, Stasis__V1__StatusResp *resp) {
        for (const struct worker *worker = workers->list; worker; worker = worker->next) {
                Stasis__V1__Operation *operation = message_new(&stasis__v1__operation__descriptor);

                operation->id = xstrdup(worker->id);
                operation->kind = xstrdup(worker->task.kind_name);
                operation->target = xstrdup(worker->task.target);
                operation->has_started = operation->has_uid = 1;
                operation->has_pid = !worker->queued;
                operation->has_queued = operation->queued = worker->queued;
                operation->pid = (uint32_t)worker->pid;
                operation->started = (uint64_t)worker->started;
                operation->uid = worker->task.uid;
                message_append(&resp->n_operations, &resp->operations, operation);
        }
}
