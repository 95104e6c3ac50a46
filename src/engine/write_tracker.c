/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/write_tracker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/spawn.h"
#include "engine/write_tracker_protocol.h"

/* A process that does not stop takes it 200 ms. */
#define ANSWER_S 3

static char *socket_path(const struct process_task *root) {
        return xasprintf("%s/track/%d-%llu", path_run_dir(), (int)root->pid, (unsigned long long)root->start_time);
}

/** Starts a tracker, whose socket is there when this returns. It becomes nobody's child when we end. */
static int start(const struct process_task *root, const char *path, struct st_error **err) {
        _cleanup_free_ char *directory = path_directory(path), *pid = xasprintf("%d", (int)root->pid),
                            *start_time = xasprintf("%llu", (unsigned long long)root->start_time);
        char *const argv[] = { (char *)"stasis", (char *)WRITE_TRACKER, (char *)path, pid, start_time, NULL };
        int r = io_make_directories(directory, 0700);
        _cleanup_close_ int listener = r < 0 ? r : io_listen_unix(path, 0600, 1);

        if (listener < 0)
                return st_error_errno(err, listener, "cannot listen at %s", path);
        /* Nothing of the caller's: it outlives that, and who reads its output is not to wait. */
        const struct spawn_fd fds[] = { { .fd = listener, .number = TRACKER_LISTENER_FD } };
        pid_t child = spawn_self(argv, fds, ELEMENTSOF(fds), err);
        if (child < 0)
                (void)unlink(path);
        return child < 0 ? (int)child : 0;
}

static int ask(const struct write_tracker *tracker, const struct tracker_request *request, int32_t *ret) {
        int r = io_write_full(tracker->socket, request, sizeof(*request));

        if (r >= 0)
                r = io_read_full(tracker->socket, ret, sizeof(*ret));
        return r < 0 ? r : 0;
}

static int open_tracker(struct write_tracker *tracker, const struct process_task *root, struct st_error **err) {
        const struct timeval limit = { .tv_sec = ANSWER_S };
        _cleanup_free_ char *path = socket_path(root);
        int fd = io_connect_unix(path);

        if (fd < 0) {
                int r = start(root, path, err);

                if (r < 0)
                        return r;
                fd = io_connect_unix(path);
        }
        if (fd < 0)
                return st_error_errno(err, fd, "cannot connect to %s", path);
        for (int i = 0; i < 2; i++)
                (void)setsockopt(fd, SOL_SOCKET, i == 0 ? SO_RCVTIMEO : SO_SNDTIMEO, &limit, sizeof(limit));
        tracker->socket = fd;
        return 0;
}

/** @return 0; 1: this one cannot be watched; -errno: the tracker is gone */
static int watch(struct write_tracker *tracker, const struct process_task *task) {
        const struct tracker_request request = {
                .kind = TRACKER_PROCESS,
                .pid = task->pid,
                .start_time = task->start_time,
        };
        int32_t result;
        int r = ask(tracker, &request, &result);

        if (r < 0)
                return r;
        if (result < 0) {
                st_log_debug("what process %d writes is not watched: %s", (int)task->pid, strerror(-result));
                return 1;
        }
        int fd = io_receive_fd(tracker->socket);
        if (fd < 0)
                return fd;
        tracker->watches[tracker->n++] = (struct grab_watch){ task->pid, fd };
        return 0;
}

int write_tracker_begin(struct write_tracker *ret, const struct process_analysis *analysis,
                        const uint8_t since[NATIVE_ID], struct st_error **err) {
        struct tracker_request request = { .kind = TRACKER_BEGIN };
        struct write_tracker tracker = WRITE_TRACKER_NULL;
        int32_t known = 0;
        int r = open_tracker(&tracker, &analysis->tasks[0], err);

        if (r < 0)
                return r;
        if (since)
                memcpy(request.checkpoint, since, NATIVE_ID);
        request.has_checkpoint = since != NULL;
        r = ask(&tracker, &request, &known);
        tracker.watches = xcalloc(analysis->n_tasks, sizeof(*tracker.watches));
        for (size_t i = 0; i < analysis->n_tasks && r >= 0; i++)
                r = watch(&tracker, &analysis->tasks[i]);
        if (r < 0) {
                write_tracker_clear(&tracker);
                return st_error_errno(err, r, "what tracks the writes of process %d does not answer",
                                      (int)analysis->tasks[0].pid);
        }
        tracker.known = known > 0;
        *ret = tracker;
        return 0;
}

void write_tracker_commit(struct write_tracker *tracker, const uint8_t checkpoint[NATIVE_ID]) {
        struct tracker_request request = { .kind = TRACKER_COMMIT, .has_checkpoint = true };
        int32_t result;

        if (tracker->socket < 0)
                return;
        memcpy(request.checkpoint, checkpoint, NATIVE_ID);
        (void)ask(tracker, &request, &result);
}

void write_tracker_clear(struct write_tracker *tracker) {
        for (size_t i = 0; i < tracker->n; i++)
                close(tracker->watches[i].fd);
        free(tracker->watches);
        if (tracker->socket >= 0)
                close(tracker->socket);
        *tracker = (struct write_tracker)WRITE_TRACKER_NULL;
}
