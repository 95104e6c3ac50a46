/* SPDX-License-Identifier: Apache-2.0 */

/* One worker, from its turn to its end. */

#include <fcntl.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <time.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/spawn.h"
#include "daemon/worker.h"
#include "daemon/workers_private.h"
#include "engine/work_dir.h"

void worker_free(struct worker *worker) {
        struct workers *workers = worker->workers;

        *worker->link = worker->next;
        if (worker->next)
                worker->next->link = worker->link;
        else
                workers->tail = worker->link;
        workers->n--;
        if (!worker->queued)
                (*(worker_is_heavy(worker) ? &workers->heavy : &workers->light))--;

        sd_event_source_disable_unref(worker->io);
        sd_event_source_disable_unref(worker->patience);
        if (worker->socket >= 0)
                close(worker->socket);
        if (worker->pidfd >= 0)
                close(worker->pidfd);
        channel_buffer_clear(&worker->input);
        message_freep(&worker->profile);
        message_freep(&worker->result_report);
        message_freep(&worker->task.spec);
        free(worker->task.target);
        free(worker->task.type);
        free(worker->task.request);
        free(worker->task.caller);
        free(worker->task.jid);
        free(worker->task.record);
        free(worker->adapter);
        free(worker->plugin);
        free(worker->id);
        free(worker->work_dir);
        free(worker);
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
        st_error_wrap(err, "%s of %s failed", worker->task.kind_name, worker->task.target);
        if (!isempty(worker->plugin))
                st_error_hint(err, "update or remove the plugin");
        else
                st_error_hint(err, "see the daemon's log");
}

/** Who asked, for what, how it ended, how long it took: one line for each operation. */
static void log_end(const struct worker *worker, struct st_error *error) {
        double ms = (double)(workers_now_usec(worker->workers) - worker->started_usec) / 1000;

        if (error)
                st_log_warning("%s %s of %s: %s; after %.1f ms, for %s", worker->task.kind_name, worker->id,
                               worker->task.target, st_error_message(error), ms, worker->task.caller);
        else
                st_log_info("%s %s of %s: done in %.1f ms, for %s", worker->task.kind_name, worker->id,
                            worker->task.target, ms, worker->task.caller);
}

static void count_end(const struct worker *worker, const Stasis__Worker__Result *result, const struct st_error *error) {
        const struct worker_ended ended = {
                .kind = worker->task.kind_name,
                .type = worker->task.type   ? worker->task.type
                        : worker->task.spec ? worker->task.spec->type
                                            : NULL,
                .result = result,
                .error = error,
                .duration_us = worker->started_usec > 0 ? workers_now_usec(worker->workers) - worker->started_usec : 0,
        };

        if (worker->workers->ended)
                worker->workers->ended(&ended, worker->workers->ended_userdata);
}

void worker_end(struct worker *worker, struct st_error *failure) {
        _cleanup_error_ struct st_error *error = failure;
        const Stasis__Worker__Result *result = NULL;
        struct workers *workers = worker->workers;

        if (error)
                ;
        else if (!worker->result)
                death_error(worker, &error);
        else if (worker->result->has_number && worker->result->number != 0)
                st_error_set(&error, worker->result->number, "%s", worker->result->message ?: "unknown error");
        else
                result = worker->result;

        if (worker->work_dir && work_dir_clean(worker->work_dir) == -EBUSY)
                strv_add(&workers->stale, worker->work_dir);
        log_end(worker, error);
        count_end(worker, result, error);
        worker->events.end(result, worker->profile, error, worker->userdata);
        worker_free(worker);
        workers_kick(workers);
}

/** A restore's worker lives on as the supervisor. */
void worker_check_end(struct worker *worker) {
        if (worker->result || (worker->exited && worker->closed))
                worker_end(worker, NULL);
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
                st_log((enum st_log_level)report->log->level, "%s %s: %s", worker->task.kind_name, worker->id,
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
                        st_log_error("%s %s: its worker sends garbage", worker->task.kind_name, worker->id);
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
        message.job = task->spec;
        message.jobrecord = task->record;
        message.has_bypolicy = message.bypolicy = task->by_policy;
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
                .path = "/proc/self/exe",
                .argv = argv,
                .fds = fds,
                .n_fds = ELEMENTSOF(fds),
                .new_session = true,
                .limit_nofile = worker->workers->has_limit ? &worker->workers->limit_nofile : NULL,
        };
        worker->pid = spawn_start(&spawn, &worker->pidfd, err);
        return worker->pid < 0 ? (int)worker->pid : 0;
}

/** A later daemon must know which job an operation that has outlived us is about. */
static int record_job(const struct worker *worker, struct st_error **err) {
        _cleanup_free_ char *path = path_join(worker->work_dir, WORK_DIR_JOB);
        const char *jid = worker->task.jid;
        int r = jid ? io_replace_file(path, jid, strlen(jid), 0600, false) : 0;

        return r < 0 ? st_error_errno(err, r, "cannot write %s", path) : 0;
}

int worker_launch(struct worker *worker, struct st_error **err) {
        struct workers *workers = worker->workers;
        int r;

        worker->queued = false;
        (*(worker_is_heavy(worker) ? &workers->heavy : &workers->light))++;
        worker->started = time(NULL);
        worker->started_usec = workers_now_usec(workers);
        r = work_dir_new(&worker->work_dir, err);
        if (r >= 0)
                r = record_job(worker, err);
        if (r >= 0 && worker->events.begin)
                r = worker->events.begin(worker, &worker->task, path_name(worker->work_dir), worker->userdata, err);
        if (r >= 0)
                r = spawn_worker(worker, &worker->task, err);
        if (r >= 0) {
                r = sd_event_add_io(workers->loop, &worker->io, worker->socket, EPOLLIN, on_socket, worker);
                if (r < 0)
                        st_error_errno(err, r, "cannot watch a worker");
        }
        if (r < 0) {
                if (worker->work_dir && worker->pid <= 0) {
                        (void)io_remove_tree(worker->work_dir);
                        free(TAKE_PTR(worker->work_dir));
                }
                return r;
        }
        free(TAKE_PTR(worker->task.request));
        st_log_info("%s %s of %s, for %s", worker->task.kind_name, worker->id, worker->task.target,
                    worker->task.caller);
        return 0;
}

/** Its target lives: CRIU rolls back when nobody takes its stream any more, and a plugin's dump has a guard. */
static int on_patience(sd_event_source *source, uint64_t usec, void *userdata) {
        struct worker *worker = userdata;

        (void)source;
        (void)usec;
        st_log_warning("%s %s: its worker %d did not react to being cancelled, and is killed", worker->task.kind_name,
                       worker->id, (int)worker->pid);
        worker->deaf = true;
        (void)pidfd_send_signal(worker->pidfd, SIGKILL, NULL, 0);
        return 0;
}

void worker_tell(struct worker *worker, int number) {
        int32_t reason = number;

        /* A worker that does not read any more is at its end. */
        if (worker->socket >= 0)
                (void)send(worker->socket, &reason, sizeof(reason), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (!worker->patience && sd_event_add_time_relative(worker->workers->loop, &worker->patience, CLOCK_MONOTONIC,
                                                            worker->workers->patience_us, 0, on_patience, worker) < 0)
                st_log_warning("%s %s: cannot make a timer", worker->task.kind_name, worker->id);
}
