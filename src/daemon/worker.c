/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/worker.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "daemon/channel.h"
#include "engine/checkpoint_chain.h"
#include "engine/dump_info.h"
#include "engine/engine.h"
#include "engine/job_stdio.h"
#include "engine/operation.h"
#include "engine/settings.h"
#include "plugin/registry.h"

/* A task holds a request (16 MiB at most) and the configuration. */
#define TASK_MAX (32u << 20)

/* With RunReq.WaitFirstMaster what ended keeps its output so long for the first who attaches. */
#define LINGER_MS 10000

struct worker {
        Stasis__Worker__Task *task;
        struct st_arguments *config;
        struct st_operation *operation;
        pthread_mutex_t send_lock;
        pthread_t control;
        int cancel_fd; /* eventfd: set by the control thread */
        int log_fd;    /* what is attached to prints there, too: started.log; -EBADF: not opened */
        struct engine_started started;
        bool controlled;                        /* the control thread runs */
        bool linger;                            /* the first who attaches is to get all output */
        Stasis__V1__CheckpointInfo *checkpoint; /* of a dump */
};

static void worker_send(struct worker *worker, const Stasis__Worker__Report *report) {
        size_t size;
        _cleanup_free_ uint8_t *frame = channel_pack(report, &size);

        /* A daemon that is gone is noticed by the control thread. */
        pthread_mutex_lock(&worker->send_lock);
        (void)io_write_full(WORKER_SOCKET_FD, frame, size);
        pthread_mutex_unlock(&worker->send_lock);
}

static void on_report(const Stasis__Worker__Report *report, void *userdata) {
        worker_send(userdata, report);
}

static void on_log(enum st_log_level level, const char *message, void *userdata) {
        Stasis__V1__LogLine line = STASIS__V1__LOG_LINE__INIT;
        Stasis__Worker__Report report = STASIS__WORKER__REPORT__INIT;

        line.has_level = 1;
        line.level = (int32_t)level;
        line.text = (char *)message;
        report.kind_case = STASIS__WORKER__REPORT__KIND_LOG;
        report.log = &line;
        worker_send(userdata, &report);
}

/** Waits for the daemon's word to cancel, or for its end. */
static void *control_main(void *userdata) {
        struct worker *worker = userdata;
        int32_t reason = ECANCELED;
        uint64_t one = 1;
        bool starting = worker->task->operation == STASIS__WORKER__OPERATION_KIND__RESTORE ||
                        worker->task->operation == STASIS__WORKER__OPERATION_KIND__RUN;

        /* A restore or run whose daemon is gone goes on: what it starts is wanted, and becomes the supervisor's. */
        if (io_read_full(WORKER_SOCKET_FD, &reason, sizeof(reason)) < 0) {
                reason = ECANCELED;
                if (starting)
                        return NULL;
        }
        operation_set_cancel_reason(worker->operation, reason);
        (void)io_write_full(worker->cancel_fd, &one, sizeof(one));
        return NULL;
}

static int run_dump(struct worker *worker, ProtobufCMessage **ret, struct st_error **err) {
        _cleanup_(message_freep) Daemon__DumpReq *req =
                daemon__dump_req__unpack(NULL, worker->task->request.len, worker->task->request.data);
        Daemon__DumpResp *resp = message_new(&daemon__dump_resp__descriptor);
        uint64_t begin = clock_ns();
        int r;

        *ret = &resp->base;
        r = req ? engine_dump(worker->operation, req, resp, err) : st_error_set(err, EBADMSG, "bad request");
        if (r >= 0 && resp->n_paths > 0)
                worker->checkpoint = dump_info(worker->operation, req, resp, (clock_ns() - begin) / 1000);
        return r;
}

static int run_freezer(struct worker *worker, ProtobufCMessage **ret, struct st_error **err) {
        _cleanup_(message_freep) Daemon__DumpReq *req =
                daemon__dump_req__unpack(NULL, worker->task->request.len, worker->task->request.data);
        Daemon__DumpResp *resp = message_new(&daemon__dump_resp__descriptor);

        *ret = &resp->base;
        if (!req)
                return st_error_set(err, EBADMSG, "bad request");
        return worker->task->operation == STASIS__WORKER__OPERATION_KIND__FREEZE
                       ? engine_freeze(worker->operation, req, resp, err)
                       : engine_unfreeze(worker->operation, req, resp, err);
}

/* Of the request; what it does not set is the job's, or the caller's. */
struct log_owner {
        bool has_uid, has_gid;
        uid_t uid;
        gid_t gid;
};

/**
 * Opened here for the supervisor, and as the user's whose file it is. A job that runs is not ended for its log: it goes
 * on without.
 */
static void open_log(struct worker *worker, const struct log_owner *owner, size_t *n_messages, char ***messages) {
        const Stasis__V1__JobSpec *job = worker->task->job;
        uid_t uid = owner->has_uid ? owner->uid : job && job->has_uid ? job->uid : worker->task->uid;
        gid_t gid = owner->has_gid ? owner->gid : job && job->has_gid ? job->gid : worker->task->gid;
        _cleanup_error_ struct st_error *problem = NULL;

        if (!engine_started_has_stdio(&worker->started) || !worker->started.log)
                return;
        worker->log_fd = job_stdio_open_log(worker->started.log, uid, gid, &problem);
        if (worker->log_fd >= 0)
                return;
        free(TAKE_PTR(worker->started.log));
        message_append(n_messages, messages, xasprintf("its output is not recorded: %s", st_error_message(problem)));
}

/** The output of what is on a terminal of its own, and nobody asked to attach to, goes to a file, which is told. */
static void choose_output_log(struct worker *worker, Daemon__RestoreResp *resp) {
        worker->started.log = xasprintf("%s/output-%s.log", path_log_dir(), worker->task->id);
        (void)io_make_directories(path_log_dir(), 0700);
        message_append(&resp->n_messages, &resp->messages,
                       xasprintf("process %u is on a terminal of its own; its output goes to %s", resp->pid,
                                 worker->started.log));
}

static int run_restore(struct worker *worker, ProtobufCMessage **ret, struct st_error **err) {
        _cleanup_(message_freep) Daemon__RestoreReq *req =
                daemon__restore_req__unpack(NULL, worker->task->request.len, worker->task->request.data);
        Daemon__RestoreResp *resp = message_new(&daemon__restore_resp__descriptor);
        int r;

        *ret = &resp->base;
        r = req ? engine_restore(worker->operation, req, resp, &worker->started, err)
                : st_error_set(err, EBADMSG, "bad request");
        if (r < 0)
                return r;
        worker->linger = req->waitfirstmaster;
        if (engine_started_has_stdio(&worker->started) && !worker->started.log && !req->attachable)
                choose_output_log(worker, resp);
        const struct log_owner owner = { req->has_uid, req->has_gid, req->uid, req->gid };
        open_log(worker, &owner, &resp->n_messages, &resp->messages);
        return 0;
}

static int run_run(struct worker *worker, ProtobufCMessage **ret, struct st_error **err) {
        _cleanup_(message_freep) Daemon__RunReq *req =
                daemon__run_req__unpack(NULL, worker->task->request.len, worker->task->request.data);
        Daemon__RunResp *resp = message_new(&daemon__run_resp__descriptor);
        int r;

        *ret = &resp->base;
        if (!req)
                return st_error_set(err, EBADMSG, "bad request");
        worker->linger = req->waitfirstmaster;
        if (worker->task->job)
                message_set_string(&resp->jid, worker->task->job->jid);
        if (worker->task->operation == STASIS__WORKER__OPERATION_KIND__MANAGE)
                return engine_manage(worker->operation, req, resp, &worker->started, err);
        r = engine_run(worker->operation, req, resp, &worker->started, err);
        if (r < 0)
                return r;
        const struct log_owner owner = { req->has_uid, req->has_gid, req->uid, req->gid };
        open_log(worker, &owner, &resp->n_messages, &resp->messages);
        return 0;
}

static int run_query(struct worker *worker, ProtobufCMessage **ret, struct st_error **err) {
        _cleanup_(message_freep) Daemon__QueryReq *req =
                daemon__query_req__unpack(NULL, worker->task->request.len, worker->task->request.data);
        Daemon__QueryResp *resp = message_new(&daemon__query_resp__descriptor);

        *ret = &resp->base;
        return req ? engine_query(worker->operation, req, resp, err) : st_error_set(err, EBADMSG, "bad request");
}

static int run_health_check(struct worker *worker, ProtobufCMessage **ret, struct st_error **err) {
        _cleanup_(message_freep) Daemon__HealthCheckReq *req =
                daemon__health_check_req__unpack(NULL, worker->task->request.len, worker->task->request.data);
        Daemon__HealthCheckResp *resp = message_new(&daemon__health_check_resp__descriptor);

        *ret = &resp->base;
        return req ? engine_health(worker->operation, req, resp, err) : st_error_set(err, EBADMSG, "bad request");
}

/** Every worker loads the plugins anew: all that is left to do is to say what is wrong with them. */
static int run_reload_plugins(struct worker *worker, ProtobufCMessage **ret, struct st_error **err) {
        (void)worker;
        (void)err;
        for (size_t i = 0; i < registry_count(); i++) {
                const struct plugin_entry *entry = registry_get(i);
                if (entry->error)
                        st_log_warning("plugin %s: %s", entry->file, entry->error);
        }
        *ret = message_new(&daemon__empty__descriptor);
        return 0;
}

static int run_cleanup(struct worker *worker, ProtobufCMessage **ret, struct st_error **err) {
        const Stasis__V1__JobSpec *job = worker->task->job;

        *ret = message_new(&daemon__empty__descriptor);
        return job ? engine_cleanup(job->type, job->details, err) : st_error_set(err, EBADMSG, "bad request");
}

static int run_kill_signal(struct worker *worker, ProtobufCMessage **ret, struct st_error **err) {
        Stasis__Worker__Signal *signal = message_new(&stasis__worker__signal__descriptor);

        *ret = &signal->base;
        if (!worker->task->job)
                return st_error_set(err, EBADMSG, "bad request");
        signal->has_number = 1;
        return engine_kill_signal(worker->task->job->type, &signal->number, err);
}

static int run_release(struct worker *worker, ProtobufCMessage **ret, struct st_error **err) {
        _cleanup_(message_freep) Stasis__Worker__Release *req =
                stasis__worker__release__unpack(NULL, worker->task->request.len, worker->task->request.data);
        Stasis__Worker__Folded *resp = message_new(&stasis__worker__folded__descriptor);

        *ret = &resp->base;
        return req && req->path ? engine_release(worker->operation, req, resp, err)
                                : st_error_set(err, EBADMSG, "bad request");
}

static int run_fold(struct worker *worker, ProtobufCMessage **ret, struct st_error **err) {
        _cleanup_(message_freep) Stasis__Worker__Fold *req =
                stasis__worker__fold__unpack(NULL, worker->task->request.len, worker->task->request.data);
        Stasis__Worker__Folded *resp = message_new(&stasis__worker__folded__descriptor);

        *ret = &resp->base;
        return req && req->path ? engine_fold(worker->operation, req, resp, err)
                                : st_error_set(err, EBADMSG, "bad request");
}

static int (*const runners[])(struct worker *, ProtobufCMessage **, struct st_error **) = {
        [STASIS__WORKER__OPERATION_KIND__DUMP] = run_dump,
        [STASIS__WORKER__OPERATION_KIND__RESTORE] = run_restore,
        [STASIS__WORKER__OPERATION_KIND__QUERY] = run_query,
        [STASIS__WORKER__OPERATION_KIND__HEALTH_CHECK] = run_health_check,
        [STASIS__WORKER__OPERATION_KIND__RELOAD_PLUGINS] = run_reload_plugins,
        [STASIS__WORKER__OPERATION_KIND__FREEZE] = run_freezer,
        [STASIS__WORKER__OPERATION_KIND__UNFREEZE] = run_freezer,
        [STASIS__WORKER__OPERATION_KIND__RUN] = run_run,
        [STASIS__WORKER__OPERATION_KIND__MANAGE] = run_run,
        [STASIS__WORKER__OPERATION_KIND__CLEANUP] = run_cleanup,
        [STASIS__WORKER__OPERATION_KIND__KILL_SIGNAL] = run_kill_signal,
        [STASIS__WORKER__OPERATION_KIND__RELEASE] = run_release,
        [STASIS__WORKER__OPERATION_KIND__FOLD] = run_fold,
};

/** The frame with the result; malloc'ed. */
static uint8_t *pack_result(const struct worker *worker, int r, struct st_error *error,
                            const ProtobufCMessage *response, size_t *ret_size) {
        Stasis__Worker__StartedProcess process = STASIS__WORKER__STARTED_PROCESS__INIT;
        Stasis__Worker__Result result = STASIS__WORKER__RESULT__INIT;
        Stasis__Worker__Report report = STASIS__WORKER__REPORT__INIT;
        _cleanup_free_ uint8_t *packed = NULL;

        result.has_number = 1;
        if (r < 0) {
                result.number = -r;
                result.message = (char *)st_error_message(error);
        } else {
                result.has_response = 1;
                packed = message_pack(response, &result.response.len);
                result.response.data = packed;
                result.checkpoint = worker->checkpoint;
        }
        if (r >= 0 && worker->started.pid > 0) {
                process.has_pid = process.has_starttime = 1;
                process.pid = (uint32_t)worker->started.pid;
                process.starttime = worker->started.start_time;
                result.process = &process;
        }
        report.kind_case = STASIS__WORKER__REPORT__KIND_RESULT;
        report.result = &result;
        return channel_pack(&report, ret_size);
}

/** The record of a job says what it is, so that a daemon without its database knows: stasis.v1.JobSpec, packed. */
static int write_job(const struct worker *worker, const char *dir, struct st_error **err) {
        _cleanup_free_ char *path = path_join(dir, "job");
        _cleanup_free_ uint8_t *packed = NULL;
        size_t size;
        int r;

        if (!worker->task->job)
                return 0;
        packed = message_pack(&worker->task->job->base, &size);
        r = io_replace_file(path, packed, size, 0600, false);
        return r < 0 ? st_error_errno(err, r, "cannot write %s", path) : 0;
}

/** Hands a descriptor over the exec. */
static void pass_fd(struct strv *argv, const char *name, int fd) {
        if (fd < 0)
                return;
        strv_addf(argv, "--%s=%d", name, fd);
        (void)io_set_cloexec(fd, false);
}

static void add_stdio(const struct worker *worker, struct strv *argv) {
        const struct st_stdio *stdio = &worker->started.stdio;

        pass_fd(argv, "terminal", stdio->terminal);
        if (stdio->terminal < 0) {
                pass_fd(argv, "stdin", stdio->in);
                pass_fd(argv, "stdout", stdio->out);
                pass_fd(argv, "stderr", stdio->err);
        }
        if (worker->log_fd >= 0) {
                strv_addf(argv, "--log=%s", worker->started.log); /* its name, should it fail later */
                pass_fd(argv, "log-fd", worker->log_fd);
        }
        if (engine_started_has_stdio(&worker->started) && worker->linger)
                strv_addf(argv, "--linger=%d", LINGER_MS);
}

/**
 * Becomes the supervisor of what was started; does not return when that works. The record's directory exists before,
 * and the answer goes out after the supervisor has written the record.
 */
static int become_supervisor(struct worker *worker, int answer_fd, struct st_error **err) {
        _cleanup_free_ char *program = path_libexec("stasis-supervisor");
        _cleanup_free_ char *jobs = path_join(path_run_dir(), "jobs");
        _cleanup_free_ char *dir = path_join(jobs, worker->task->id);
        _cleanup_strv_ struct strv argv = { 0 };
        _cleanup_close_ int program_fd = -EBADF;
        sigset_t set;
        int r;

        r = io_make_directories(dir, 0700);
        if (r < 0)
                return st_error_errno(err, r, "cannot make %s", dir);
        r = write_job(worker, dir, err);
        if (r < 0)
                return r;
        strv_add(&argv, "stasis-supervisor");
        strv_addf(&argv, "--dir=%s", dir);
        strv_addf(&argv, "--pid=%d", worker->started.pid);
        strv_addf(&argv, "--child=%d", worker->started.child);
        pass_fd(&argv, "answer", answer_fd);
        pass_fd(&argv, "socket", WORKER_SOCKET_FD);
        add_stdio(worker, &argv);
        program_fd = worker->started.memory_fd >= 0 ? open("/proc/self/exe", O_PATH | O_CLOEXEC) : -EBADF;
        if (program_fd >= 0) {
                strv_addf(&argv, "--record=%s", worker->started.memory_record);
                pass_fd(&argv, "memory", worker->started.memory_fd);
                pass_fd(&argv, "program", program_fd);
        }
        /* Its end may come while we exec: the signal must wait for the supervisor. */
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        sigprocmask(SIG_BLOCK, &set, NULL);
        execv(program, argv.items);
        r = -errno;
        (void)io_remove_tree(dir);
        return st_error_errno(err, r, "cannot start %s", program);
}

/** From here on nobody else looks at the operation. Its thread may be waiting for the daemon's word. */
static void stop_control(struct worker *worker) {
        if (!worker->controlled)
                return;
        (void)shutdown(WORKER_SOCKET_FD, SHUT_RD);
        (void)pthread_join(worker->control, NULL);
        worker->controlled = false;
}

static void finish(struct worker *worker, int r, struct st_error *error, const ProtobufCMessage *response) {
        size_t size;
        _cleanup_free_ uint8_t *frame = pack_result(worker, r, error, response, &size);

        if (r >= 0 && worker->started.child > 0) {
                _cleanup_error_ struct st_error *problem = NULL;
                _cleanup_close_ int answer = io_memfd("answer", frame, size);

                /* The operation ends here; its directory must not outlive the exec. */
                worker->operation = operation_free(worker->operation);
                if (answer < 0 || become_supervisor(worker, answer, &problem) < 0)
                        st_log_error("process %d runs without a supervisor: %s", worker->started.pid,
                                     problem ? st_error_message(problem) : "no memory file");
        }
        pthread_mutex_lock(&worker->send_lock);
        (void)io_write_full(WORKER_SOCKET_FD, frame, size);
        pthread_mutex_unlock(&worker->send_lock);
}

static int load_task(struct worker *worker, struct st_error **err) {
        _cleanup_free_ char *path = xasprintf("/proc/self/fd/%d", WORKER_TASK_FD);
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r;

        r = io_read_file(AT_FDCWD, path, TASK_MAX, &data, &size);
        if (r < 0)
                return st_error_errno(err, r, "cannot read the task");
        close(WORKER_TASK_FD);
        worker->task = stasis__worker__task__unpack(NULL, size, (const uint8_t *)data);
        if (!worker->task || !worker->task->config || (size_t)worker->task->operation >= ELEMENTSOF(runners))
                return st_error_set(err, EBADMSG, "the task is not readable");
        return settings_from_json(worker->task->config, &worker->config, err);
}

static int prepare(struct worker *worker, struct st_error **err) {
        int r = load_task(worker, err);
        if (r < 0)
                return r;

        const struct operation_options options = {
                .config = worker->config,
                .work_dir = worker->task->workdir,
                .id = worker->task->id,
                .uid = worker->task->uid,
                .gid = worker->task->gid,
                .client = (pid_t)worker->task->pid,
                .privileged = worker->task->privileged,
                .job = worker->task->job,
                .job_record = worker->task->jobrecord,
                .by_policy = worker->task->bypolicy,
                .cancel_fd = worker->cancel_fd,
                .report = on_report,
                .userdata = worker,
        };
        logger_set_target(LOGGER_CALL, on_log, worker);
        logger_set_level((enum st_log_level)worker->task->loglevel);
        r = operation_new(&options, &worker->operation, err);
        if (r < 0)
                return r;
        engine_load_plugins(worker->config);
        r = pthread_create(&worker->control, NULL, control_main, worker);
        if (r != 0)
                return st_error_errno(err, r, "cannot start a thread");
        worker->controlled = true;
        return 0;
}

int worker_main(void) {
        struct worker worker = { .send_lock = PTHREAD_MUTEX_INITIALIZER,
                                 .log_fd = -EBADF,
                                 .started = ENGINE_STARTED_NULL };
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_(message_freep) ProtobufCMessage *response = NULL;
        struct stat st;
        int r;

        if (fstat(WORKER_SOCKET_FD, &st) < 0 || !S_ISSOCK(st.st_mode)) {
                st_log_error("'stasis worker' is started by the daemon, not by hand");
                return EXIT_FAILURE;
        }
        (void)io_set_cloexec(WORKER_SOCKET_FD, true);
        (void)io_set_cloexec(WORKER_TASK_FD, true);
        (void)signal(SIGPIPE, SIG_IGN);
        worker.cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        r = prepare(&worker, &error);
        if (r >= 0)
                r = runners[worker.task->operation](&worker, &response, &error);
        stop_control(&worker);
        finish(&worker, r, error, response);

        operation_free(worker.operation);
        arguments_free(worker.config);
        message_freep(&worker.task);
        message_freep(&worker.checkpoint);
        engine_started_clear(&worker.started);
        cleanup_closep(&worker.log_fd);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
