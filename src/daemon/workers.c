/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/workers.h"

#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
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
#include "base/spawn.h"
#include "base/text.h"
#include "daemon/channel.h"
#include "daemon/worker.h"
#include "engine/work_dir.h"

#define CLEAN_EVERY_US 200000
#define PATIENCE_MAX_S 86400

struct worker {
        struct workers *workers;
        struct worker *next, **link; /* in workers->running */
        char *id, *work_dir, *target, *caller;
        const char *kind;
        Stasis__Worker__OperationKind operation;
        uid_t uid;
        time_t started;
        uint64_t started_usec; /* of the loop's CLOCK_MONOTONIC */
        pid_t pid;
        int pidfd, socket;
        sd_event_source *io;
        sd_event_source *patience; /* from its cancelling on; at its end it is killed */
        struct channel_buffer input;
        struct worker_events events;
        void *userdata;
        Stasis__V1__Profile *profile;
        char *adapter, *plugin;         /* where it is, for the message of a crash */
        Stasis__Worker__Result *result; /* once it came */
        Stasis__Worker__Report *result_report;
        bool closed, exited;
        bool deaf; /* it was killed for not reacting to its cancelling */
        int status;
};

struct workers {
        sd_event *loop;
        char *config; /* JSON */
        enum st_log_level log_level;
        uint64_t patience_us; /* how long a cancelled worker may roll back */
        struct worker *running;
        size_t n;
        unsigned sequence;
        sd_event_source *timer; /* while there are stale work directories */
        struct strv stale;      /* work directories that were still in use when their worker died */
};

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
        workers->log_level = log_level;
        json = arguments_to_json(config);
        int r = sd_event_add_time_relative(loop, &workers->timer, CLOCK_MONOTONIC, 0, 0, on_timer, workers);
        if (r >= 0)
                r = sd_event_source_set_enabled(workers->timer, SD_EVENT_OFF);
        if (r < 0) {
                json_decref(json);
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

static void worker_free(struct worker *worker) {
        *worker->link = worker->next;
        if (worker->next)
                worker->next->link = worker->link;
        worker->workers->n--;

        sd_event_source_disable_unref(worker->io);
        sd_event_source_disable_unref(worker->patience);
        if (worker->socket >= 0)
                close(worker->socket);
        if (worker->pidfd >= 0)
                close(worker->pidfd);
        channel_buffer_clear(&worker->input);
        message_freep(&worker->profile);
        message_freep(&worker->result_report);
        free(worker->adapter);
        free(worker->plugin);
        free(worker->id);
        free(worker->work_dir);
        free(worker->target);
        free(worker->caller);
        free(worker);
}

struct workers *workers_free(struct workers *workers) {
        if (!workers)
                return NULL;
        while (workers->running)
                worker_free(workers->running);
        sd_event_source_disable_unref(workers->timer);
        strv_clear(&workers->stale);
        sd_event_unref(workers->loop);
        free(workers->config);
        free(workers);
        return NULL;
}

static uint64_t now_usec(const struct workers *workers) {
        uint64_t now = 0;

        (void)sd_event_now(workers->loop, CLOCK_MONOTONIC, &now);
        return now;
}

/** Why a worker that sent no result is gone. */
static void death_error(const struct worker *worker, struct st_error **err) {
        _cleanup_free_ char *how = spawn_describe_status(worker->status);

        if (!isempty(worker->plugin))
                st_error_set(err, EPROTO, "worker %s in plugin %s, adapter %s", how, worker->plugin, worker->adapter);
        else if (!isempty(worker->adapter))
                st_error_set(err, EPROTO, "worker %s in adapter %s", how, worker->adapter);
        else
                st_error_set(err, EPROTO, "worker %s", how);
        if (worker->deaf)
                st_error_wrap(err, "it did not react to being cancelled");
        st_error_wrap(err, "%s of %s failed", worker->kind, worker->target);
        if (!isempty(worker->plugin))
                st_error_hint(err, "update or remove the plugin");
        else
                st_error_hint(err, "see the daemon's log");
}

/** Who asked, for what, how it ended, how long it took: one line for each operation. */
static void log_end(const struct worker *worker, struct st_error *error) {
        double ms = (double)(now_usec(worker->workers) - worker->started_usec) / 1000;

        if (error)
                st_log_warning("%s %s of %s: %s; after %.1f ms, for %s", worker->kind, worker->id, worker->target,
                               st_error_message(error), ms, worker->caller);
        else
                st_log_info("%s %s of %s: done in %.1f ms, for %s", worker->kind, worker->id, worker->target, ms,
                            worker->caller);
}

static void worker_end(struct worker *worker) {
        _cleanup_error_ struct st_error *error = NULL;
        const ProtobufCBinaryData *response = NULL;
        struct workers *workers = worker->workers;

        if (!worker->result)
                death_error(worker, &error);
        else if (worker->result->has_number && worker->result->number != 0)
                st_error_set(&error, worker->result->number, "%s", worker->result->message ?: "unknown error");
        else
                response = &worker->result->response;

        if (work_dir_clean(worker->work_dir) == -EBUSY)
                strv_add(&workers->stale, worker->work_dir);
        log_end(worker, error);
        worker->events.end(response, worker->profile, error, worker->userdata);
        worker_free(worker);
}

/**
 * The end is known when the result is here (a restore's worker lives on as the supervisor), or the process is gone and
 * its socket read to the end.
 */
static void worker_check_end(struct worker *worker) {
        if (worker->result || (worker->exited && worker->closed))
                worker_end(worker);
}

static void send_event(struct worker *worker, Stasis__Worker__Report *report) {
        Stasis__V1__Event event = STASIS__V1__EVENT__INIT;

        if (report->kind_case == STASIS__WORKER__REPORT__KIND_PROGRESS) {
                event.kind_case = STASIS__V1__EVENT__KIND_PROGRESS;
                event.progress = report->progress;
        } else {
                event.kind_case = STASIS__V1__EVENT__KIND_LOG;
                event.log = report->log;
        }
        if (worker->events.event)
                worker->events.event(&event, worker->userdata);
}

static void on_report(struct worker *worker, Stasis__Worker__Report *report) {
        switch (report->kind_case) {
        case STASIS__WORKER__REPORT__KIND_LOG:
                st_log((enum st_log_level)report->log->level, "%s %s: %s", worker->kind, worker->id,
                       report->log->text ?: "");
                send_event(worker, report);
                break;
        case STASIS__WORKER__REPORT__KIND_PROGRESS:
                send_event(worker, report);
                break;
        case STASIS__WORKER__REPORT__KIND_POSITION:
                message_set_string(&worker->adapter, report->position->adapter);
                message_set_string(&worker->plugin, report->position->plugin);
                break;
        case STASIS__WORKER__REPORT__KIND_SPAN:
                message_append(&worker->profile->n_spans, &worker->profile->spans, report->span);
                report->span = NULL;
                report->kind_case = STASIS__WORKER__REPORT__KIND__NOT_SET;
                break;
        case STASIS__WORKER__REPORT__KIND_RESULT:
                worker->result = report->result;
                worker->result_report = report;
                return; /* kept */
        default:
                break;
        }
        message_freep(&report);
}

static void worker_lost(struct worker *worker) {
        worker->closed = true;
        sd_event_source_disable_unref(worker->io);
        worker->io = NULL;
}

static int on_socket(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct worker *worker = userdata;
        Stasis__Worker__Report *report;
        ssize_t n;
        int r;

        (void)source;
        (void)events;
        n = channel_receive(&worker->input, fd);
        if (n == -EAGAIN)
                return 0;
        while (n > 0 && !worker->result && (r = channel_next(&worker->input, &report)) != 0) {
                if (r < 0) {
                        st_log_error("%s %s: its worker sends garbage", worker->kind, worker->id);
                        (void)pidfd_send_signal(worker->pidfd, SIGKILL, NULL, 0);
                        n = 0;
                        break;
                }
                on_report(worker, report);
        }
        if (n <= 0)
                worker_lost(worker);
        worker_check_end(worker);
        return 0;
}

void workers_clean_stale(struct workers *workers) {
        work_dir_clean_stale(&workers->stale);
        clean_later(workers);
}

void workers_child_ended(struct workers *workers, pid_t pid, int status) {
        for (struct worker *worker = workers->running; worker; worker = worker->next)
                if (worker->pid == pid) {
                        worker->exited = true;
                        worker->status = status;
                        worker_check_end(worker);
                        break;
                }
        clean_stale(workers);
}

static uint8_t *pack_task(const struct worker *worker, const struct worker_task *task, size_t *ret_size) {
        Stasis__Worker__Task message = STASIS__WORKER__TASK__INIT;

        message.has_operation = message.has_request = message.has_uid = message.has_gid = message.has_pid = 1;
        message.has_loglevel = message.has_privileged = 1;
        message.operation = task->kind;
        message.request.data = task->request;
        message.request.len = task->request_size;
        message.config = worker->workers->config;
        message.workdir = worker->work_dir;
        message.id = worker->id;
        message.uid = task->uid;
        message.gid = task->gid;
        message.pid = (uint32_t)task->pid;
        message.privileged = task->privileged;
        message.loglevel = (int32_t)worker->workers->log_level;
        return message_pack(&message.base, ret_size);
}

static int spawn_worker(struct worker *worker, const struct worker_task *task, struct st_error **err) {
        static char *const argv[] = { (char *)"stasis", (char *)"worker", NULL };
        _cleanup_free_ uint8_t *packed = NULL;
        _cleanup_close_ int memory = -EBADF, theirs = -EBADF;
        int pair[2], r;
        size_t size;

        packed = pack_task(worker, task, &size);
        memory = io_memfd("stasis-task", packed, size);
        if (memory < 0)
                return st_error_errno(err, memory, "cannot make a memory file for a task");
        r = io_socketpair(pair);
        if (r < 0)
                return st_error_errno(err, r, "cannot make a socket for a worker");
        worker->socket = pair[0];
        theirs = pair[1];
        (void)io_set_nonblocking(worker->socket, true);

        const struct spawn_fd fds[] = {
                { .fd = STDERR_FILENO, .number = STDERR_FILENO },
                { .fd = theirs, .number = WORKER_SOCKET_FD },
                { .fd = memory, .number = WORKER_TASK_FD },
        };
        const struct spawn spawn = {
                /* Our own binary even when the file was replaced by an upgrade. */
                .path = "/proc/self/exe", .argv = argv, .fds = fds, .n_fds = ELEMENTSOF(fds), .new_session = true,
        };
        worker->pid = spawn_start(&spawn, &worker->pidfd, err);
        return worker->pid < 0 ? (int)worker->pid : 0;
}

int workers_start(struct workers *workers, struct worker_task *task, const struct worker_events *events, void *userdata,
                  struct worker **ret, struct st_error **err) {
        struct worker *worker = NEW(struct worker);
        _cleanup_free_ uint8_t *request = TAKE_PTR(task->request);
        int r;

        worker->workers = workers;
        worker->next = workers->running;
        worker->link = &workers->running;
        if (worker->next)
                worker->next->link = &worker->next;
        workers->running = worker;
        workers->n++;

        worker->id = xasprintf("%llx-%u", (unsigned long long)time(NULL), ++workers->sequence);
        worker->target = TAKE_PTR(task->target);
        worker->caller = TAKE_PTR(task->caller);
        worker->kind = task->kind_name;
        worker->operation = task->kind;
        worker->uid = task->uid;
        worker->started = time(NULL);
        worker->started_usec = now_usec(workers);
        worker->pidfd = worker->socket = -EBADF;
        worker->events = *events;
        worker->userdata = userdata;
        worker->profile = message_new(&stasis__v1__profile__descriptor);

        task->request = request;
        r = work_dir_new(&worker->work_dir, err);
        if (r >= 0)
                r = spawn_worker(worker, task, err);
        if (r >= 0) {
                r = sd_event_add_io(workers->loop, &worker->io, worker->socket, EPOLLIN, on_socket, worker);
                if (r < 0)
                        st_error_errno(err, r, "cannot watch a worker");
        }
        task->request = NULL;
        if (r < 0) {
                if (worker->work_dir)
                        (void)io_remove_tree(worker->work_dir);
                worker_free(worker);
                return r;
        }
        st_log_info("%s %s of %s, for %s", worker->kind, worker->id, worker->target, worker->caller);
        *ret = worker;
        return 0;
}

/** Its target lives: CRIU rolls back when nobody takes its stream any more, and a plugin's dump has a guard. */
static int on_patience(sd_event_source *source, uint64_t usec, void *userdata) {
        struct worker *worker = userdata;

        (void)source;
        (void)usec;
        st_log_warning("%s %s: its worker %d did not react to being cancelled, and is killed", worker->kind, worker->id,
                       (int)worker->pid);
        worker->deaf = true;
        (void)pidfd_send_signal(worker->pidfd, SIGKILL, NULL, 0);
        return 0;
}

void worker_cancel(struct worker *worker, int number) {
        int32_t reason = number;

        /* A worker that does not read any more is at its end. */
        if (worker->socket >= 0)
                (void)send(worker->socket, &reason, sizeof(reason), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (!worker->patience && sd_event_add_time_relative(worker->workers->loop, &worker->patience, CLOCK_MONOTONIC,
                                                            worker->workers->patience_us, 0, on_patience, worker) < 0)
                st_log_warning("%s %s: cannot make a timer", worker->kind, worker->id);
}

const char *worker_id(const struct worker *worker) {
        return worker->id;
}

int workers_cancel(struct workers *workers, const char *id, uid_t uid, struct st_error **err) {
        for (struct worker *worker = workers->running; worker; worker = worker->next) {
                if (!streq(worker->id, id))
                        continue;
                if (uid != 0 && uid != worker->uid)
                        return st_error_set(err, EPERM, "operation %s was asked for by another user", id);
                worker_cancel(worker, ECANCELED);
                return 0;
        }
        return st_error_set(err, ENOENT, "no operation %s is running", id);
}

void workers_cancel_all(struct workers *workers) {
        for (struct worker *worker = workers->running; worker; worker = worker->next)
                if (worker->operation != STASIS__WORKER__OPERATION_KIND__RESTORE)
                        worker_cancel(worker, ECANCELED);
}

size_t workers_count(const struct workers *workers) {
        return workers->n;
}

void workers_status(const struct workers *workers, Stasis__V1__StatusResp *resp) {
        for (const struct worker *worker = workers->running; worker; worker = worker->next) {
                Stasis__V1__Operation *operation = message_new(&stasis__v1__operation__descriptor);

                operation->id = xstrdup(worker->id);
                operation->kind = xstrdup(worker->kind);
                operation->target = xstrdup(worker->target);
                operation->has_pid = operation->has_started = operation->has_uid = 1;
                operation->pid = (uint32_t)worker->pid;
                operation->started = (uint64_t)worker->started;
                operation->uid = worker->uid;
                message_append(&resp->n_operations, &resp->operations, operation);
        }
}
