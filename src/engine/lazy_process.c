/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lazy_process.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/job_stdio.h"
#include "engine/lazy_message.h"
#include "engine/operation.h"
#include "engine/restore_output.h"
#include "image/formats.h"
#include "process/proc.h"

#define READY_MS 30000

/* Bytes. A descriptor that is on its way takes less than 1 KiB (SO_SNDBUF of socket(7)): of 65,536 processes. */
#define HOLDER_SIZE (64 << 20)

struct lazy_process {
        int control;
};

static char *image_id(const struct image *image) {
        const uint8_t *id = image->native->sources[0].header.id;
        char *text = xcalloc(2 * NATIVE_ID + 1, 1);

        for (size_t i = 0; i < NATIVE_ID; i++)
                (void)snprintf(text + 2 * i, 3, "%02x", id[i]);
        return text;
}

/** The log that tells later what became of its memory: of the job, or --out. @return -EBADF: there is none */
static int open_log(struct st_restore *restore) {
        const Stasis__V1__JobSpec *job = operation_job(restore->operation);
        const char *path = job && !isempty(job->log) ? job->log : restore->req->log;
        int fd = isempty(path) ? -EBADF
                               : job_stdio_open_log(path, restore_owner_uid(restore), restore_owner_gid(restore), NULL);

        return fd < 0 ? -EBADF : fd;
}

/** Starts what starts it and ends: so it is not our child. */
static int spawn_server(struct restore_context *context, int control, int listener, int holder, struct st_error **err) {
        struct st_restore *restore = &context->restore;
        const Stasis__V1__JobSpec *job = operation_job(restore->operation);
        _cleanup_close_ int log = open_log(restore);
        _cleanup_free_ char *id = image_id(context->image), *pid = xasprintf("%d", (int)getpid()), *start = NULL;
        struct proc_stat stat = { 0 };
        int status = 0;

        (void)proc_read_stat(getpid(), &stat);
        start = xasprintf("%llu", (unsigned long long)stat.start_time);

        char *const argv[] = { (char *)"stasis",
                               (char *)LAZY_SERVE,
                               (char *)image_path(context->image),
                               (char *)(job && job->jid ? job->jid : ""),
                               pid,
                               start,
                               id,
                               NULL };
        const struct spawn_fd fds[] = { { .fd = control, .number = LAZY_CONTROL_FD },
                                        { .fd = log, .number = LAZY_LOG_FD },
                                        { .fd = listener, .number = LAZY_LISTENER_FD },
                                        { .fd = holder, .number = LAZY_HOLDER_FD },
                                        { .fd = STDERR_FILENO, .number = STDERR_FILENO } };
        pid_t child = spawn_self(argv, fds, ELEMENTSOF(fds), err);
        int r = child < 0 ? (int)child : spawn_wait(child, &status);

        if (r < 0)
                return child < 0 ? r : st_error_errno(err, r, "cannot wait for what serves its memory");
        return status == 0 ? 0 : st_error_set(err, EIO, "what serves its memory could not be started");
}

/** @param ret_record of LAZY_READY; malloc'ed; may be NULL */
static int receive(struct lazy_process *process, char **ret_record, struct st_error **err) {
        char text[LAZY_TEXT_MAX];
        int kind = lazy_message_receive(process->control, text, NULL);

        switch (kind) {
        case LAZY_READY:
                if (ret_record)
                        *ret_record = xstrdup(text);
                return 1;
        case LAZY_HEALTHY:
                return 1;
        case LAZY_FAILURE:
                return st_error_set(err, EBADMSG, "%s", text);
        case 0:
                return st_error_set(err, EPIPE, "what serves its memory was killed");
        default:
                return st_error_errno(err, kind < 0 ? kind : -EPROTO, "what serves its memory does not answer");
        }
}

/** @param ret_record its record; malloc'ed */
static int wait_ready(struct lazy_process *process, struct st_operation *operation, char **ret_record,
                      struct st_error **err) {
        struct pollfd fds[] = { { .fd = process->control, .events = POLLIN },
                                { .fd = st_operation_cancel_fd(operation), .events = POLLIN } };
        int n;

        while ((n = poll(fds, ELEMENTSOF(fds), READY_MS)) < 0 && errno == EINTR)
                continue;
        if (n == 0)
                return st_error_set(err, ETIMEDOUT, "what serves its memory does not answer");
        if (fds[1].revents)
                return st_operation_check_cancelled(operation, err) ?: -ECANCELED;
        return receive(process, ret_record, err);
}

/** Room for the descriptors of so many processes: nobody takes any of it out. */
static int make_holder(int pair[2]) {
        int size = HOLDER_SIZE, r = lazy_message_pair(pair);

        if (r >= 0)
                (void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
        return r;
}

int lazy_process_start(struct restore_context *context, int listener, struct lazy_process **ret,
                       struct st_error **err) {
        struct lazy_process *process;
        int pair[2], holder[2], r = make_holder(holder);

        if (r < 0)
                return st_error_errno(err, r, "cannot make a socket");
        context->memory_fd = holder[0];
        r = lazy_message_pair(pair);
        if (r < 0) {
                close(holder[1]);
                return st_error_errno(err, r, "cannot make a socket");
        }
        process = NEW(struct lazy_process);
        process->control = pair[0];
        r = spawn_server(context, pair[1], listener, holder[1], err);
        close(pair[1]);
        close(holder[1]);
        if (r >= 0)
                r = wait_ready(process, context->restore.operation, &context->memory_record, err);
        if (r < 0) {
                lazy_process_free(process);
                return r;
        }
        *ret = process;
        return 0;
}

int lazy_process_fd(const struct lazy_process *process) {
        return process->control;
}

int lazy_process_receive(struct lazy_process *process, struct st_error **err) {
        return receive(process, NULL, err);
}

/** Tells the server something. When that has ended: why, if it could still say so. */
static int tell(struct lazy_process *process, char kind, const char *text, struct st_error **err) {
        int r = lazy_message_send(process->control, kind, text, -EBADF), last = 0;

        if (r >= 0)
                return 0;
        while (r == -EPIPE && (last = lazy_process_receive(process, err)) > 0)
                continue;
        return last < 0 ? last : st_error_errno(err, r, "what serves its memory does not answer");
}

int lazy_process_ask(struct lazy_process *process, struct st_error **err) {
        return tell(process, LAZY_ASK, NULL, err);
}

int lazy_process_let_go(struct lazy_process *process, pid_t root, struct st_error **err) {
        struct pollfd polled = { .fd = process->control, .events = POLLIN };
        struct proc_stat stat = { 0 };
        _cleanup_free_ char *text = NULL;
        int r;

        /* What went wrong since it said that all is well. */
        if (poll(&polled, 1, 0) > 0) {
                r = lazy_process_receive(process, err);
                if (r < 0)
                        return r;
        }
        (void)proc_read_stat(root, &stat);
        text = xasprintf("%d %llu", (int)root, (unsigned long long)stat.start_time);
        return tell(process, LAZY_LET_GO, text, err);
}

struct lazy_process *lazy_process_free(struct lazy_process *process) {
        if (!process)
                return NULL;
        close(process->control);
        free(process);
        return NULL;
}
