/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/options.h"
#include "base/spawn.h"
#include "engine/engine.h"
#include "engine/operation.h"
#include "engine/settings.h"
#include "engine/work_dir.h"

/* Descriptors of a guard: what is to be unfrozen, and the pipe whose end tells that its parent is gone. */
enum { TASK_FD = 3, PIPE_FD = 4 };

#define TASK_MAX (32u << 20)
#define ALL_WELL 'k'

/* An engine that is busy with a checkpoint of a client that is gone answers later. */
#define ATTEMPTS 20
#define ATTEMPT_PAUSE_MS 500

struct guard {
        int pipe;
        pid_t pid;
};

/** The configuration as JSON, its length before it, and the request. */
static int make_task(struct st_operation *operation, const Daemon__DumpReq *req, struct st_error **err) {
        json_t *config = arguments_to_json(st_operation_config(operation));
        _cleanup_free_ char *text = json_dumps(config, JSON_COMPACT);
        _cleanup_free_ uint8_t *request = NULL, *task = NULL;
        uint32_t length = (uint32_t)strlen(text);
        size_t size;
        int fd;

        json_decref(config);
        request = message_pack(&req->base, &size);
        task = xcalloc(1, sizeof(length) + length + size + 1);
        memcpy(task, &length, sizeof(length));
        memcpy(task + sizeof(length), text, length);
        if (size > 0)
                memcpy(task + sizeof(length) + length, request, size);
        fd = io_memfd("guard", task, sizeof(length) + length + size);
        return fd < 0 ? st_error_errno(err, fd, "cannot make a memory file") : fd;
}

int guard_start(struct st_operation *operation, const Daemon__DumpReq *req, struct guard **ret, struct st_error **err) {
        char *const argv[] = { (char *)"stasis", (char *)"guard", NULL };
        _cleanup_close_ int task = make_task(operation, req, err), reading = -EBADF, writing = -EBADF;
        int pipe_fds[2];
        pid_t pid;

        if (task < 0)
                return task;
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return st_error_errno(err, errno, "cannot make a pipe");
        reading = pipe_fds[0];
        writing = pipe_fds[1];

        const struct spawn_fd fds[] = { { .fd = task, .number = TASK_FD },
                                        { .fd = reading, .number = PIPE_FD },
                                        { .fd = STDERR_FILENO, .number = STDERR_FILENO } };
        pid = spawn_self(argv, fds, ELEMENTSOF(fds), err);
        if (pid < 0)
                return st_error_wrap(err, "cannot make sure that the target is thawed whatever happens");
        *ret = NEW(struct guard);
        **ret = (struct guard){ .pipe = TAKE_FD(writing), .pid = pid };
        return 0;
}

struct guard *guard_end(struct guard *guard) {
        const char well = ALL_WELL;

        if (!guard)
                return NULL;
        (void)io_write_full(guard->pipe, &well, sizeof(well));
        close(guard->pipe);
        (void)spawn_wait(guard->pid, NULL);
        free(guard);
        return NULL;
}

static int load_task(struct st_arguments **ret_config, Daemon__DumpReq **ret, struct st_error **err) {
        _cleanup_free_ char *path = xasprintf("/proc/self/fd/%d", TASK_FD), *data = NULL, *text = NULL;
        uint32_t length;
        size_t size;
        int r = io_read_file(AT_FDCWD, path, TASK_MAX, &data, &size);

        if (r < 0)
                return st_error_errno(err, r, "cannot read the task");
        if (size < sizeof(length) || (memcpy(&length, data, sizeof(length)), length > size - sizeof(length)))
                return st_error_set(err, EBADMSG, "the task is not readable");
        text = xcalloc(1, (size_t)length + 1);
        memcpy(text, data + sizeof(length), length);
        r = settings_from_json(text, ret_config, err);
        if (r < 0)
                return r;
        *ret = daemon__dump_req__unpack(NULL, size - sizeof(length) - length,
                                        (const uint8_t *)data + sizeof(length) + length);
        return *ret ? 0 : st_error_set(err, EBADMSG, "the request is not readable");
}

/** @return true: the parent has ended without a word */
static bool is_orphaned(void) {
        char said = 0;
        ssize_t n;

        while ((n = read(PIPE_FD, &said, sizeof(said))) < 0 && errno == EINTR)
                continue;
        return n == 0;
}

static void ignore_report(const Stasis__Worker__Report *report, void *userdata) {
        (void)report;
        (void)userdata;
}

static int unfreeze(const struct st_arguments *config, Daemon__DumpReq *req, struct st_error **err) {
        const struct operation_options options = {
                .config = config,
                .uid = getuid(),
                .gid = getgid(),
                .privileged = true,
                .no_server = true,
                .cancel_fd = -EBADF,
                .report = ignore_report,
        };
        _cleanup_(operation_freep) struct st_operation *operation = NULL;
        _cleanup_(message_freep) Daemon__DumpResp *resp = message_new(&daemon__dump_resp__descriptor);
        int r = operation_new(&options, &operation, err);

        return r < 0 ? r : engine_unfreeze(operation, req, resp, err);
}

int guard_main(void) {
        _cleanup_(message_freep) Daemon__DumpReq *req = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        struct st_arguments *config = NULL;
        struct stat st;
        int r;

        if (fstat(PIPE_FD, &st) < 0 || !S_ISFIFO(st.st_mode)) {
                st_log_error("'stasis guard' is started by a dump, not by hand");
                return EXIT_FAILURE;
        }
        /* It must outlive what ends its parent. */
        for (int number = 1; number < NSIG; number++)
                if (number != SIGCHLD)
                        (void)signal(number, SIG_IGN);
        (void)signal(SIGSEGV, SIG_DFL);
        (void)signal(SIGBUS, SIG_DFL);
        (void)signal(SIGABRT, SIG_DFL);
        r = load_task(&config, &req, &error);
        if (r >= 0 && is_orphaned()) {
                engine_load_plugins(config);
                for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
                        error = st_error_free(error);
                        r = unfreeze(config, req, &error);
                        if (r >= 0)
                                break;
                        (void)poll(NULL, 0, ATTEMPT_PAUSE_MS);
                }
                /* What it has left; at the first attempt it had perhaps not let go of everything yet. */
                work_dir_clean_stale(NULL);
        }
        if (r < 0)
                st_log_error("the %s of a dump that died may still be frozen: %s", req ? req->type : "target",
                             st_error_message(error));
        arguments_free(config);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
