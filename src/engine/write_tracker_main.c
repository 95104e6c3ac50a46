/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis track-writes`: write_tracker.h says what it is. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/lazy_process.h"
#include "engine/write_tracker.h"
#include "engine/write_tracker_protocol.h"
#include "process/proc.h"
#include "process/write_watch.h"

struct watched {
        pid_t pid;
        uint64_t start_time;
        int watch;
};

struct tracker {
        struct watched *processes;
        size_t n, room;
        bool known; /* all that was written since `checkpoint` is known */
        uint8_t checkpoint[NATIVE_ID];
};

static void drop(struct tracker *tracker, size_t index) {
        close(tracker->processes[index].watch);
        tracker->processes[index] = tracker->processes[--tracker->n];
}

/** Forgets processes that have ended, or execute another program. */
static void drop_gone(struct tracker *tracker) {
        for (size_t i = 0; i < tracker->n;) {
                const struct watched *process = &tracker->processes[i];

                if (!proc_is_alive(process->pid, process->start_time) || write_watch_is_gone(process->watch))
                        drop(tracker, i);
                else
                        i++;
        }
}

/** @return a descriptor of the tracker's or -errno */
static int find_or_take(struct tracker *tracker, pid_t pid, uint64_t start_time) {
        struct st_error *error = NULL;

        for (size_t i = 0; i < tracker->n; i++)
                if (tracker->processes[i].pid == pid && tracker->processes[i].start_time == start_time)
                        return tracker->processes[i].watch;
        int watch = proc_is_alive(pid, start_time) ? write_watch_take(pid, &error) : -ESRCH;
        if (error)
                st_log_debug("%s", st_error_message(error));
        st_error_free(error);
        if (watch < 0)
                return watch;
        GROW(tracker->processes, tracker->n, tracker->room);
        tracker->processes[tracker->n++] = (struct watched){ pid, start_time, watch };
        return watch;
}

static int begin(struct tracker *tracker, const struct tracker_request *request) {
        bool known = tracker->known && request->has_checkpoint &&
                     memcmp(tracker->checkpoint, request->checkpoint, NATIVE_ID) == 0;

        tracker->known = false;
        drop_gone(tracker);
        return known;
}

static int commit(struct tracker *tracker, const struct tracker_request *request) {
        memcpy(tracker->checkpoint, request->checkpoint, NATIVE_ID);
        tracker->known = request->has_checkpoint;
        return 0;
}

/** @return 0; negative: the conversation is over */
static int serve_one(struct tracker *tracker, int connection) {
        struct tracker_request request;
        int32_t result;
        int r = io_read_full(connection, &request, sizeof(request)), watch = -EBADF;

        if (r < 0)
                return r;
        switch (request.kind) {
        case TRACKER_BEGIN:
                result = begin(tracker, &request);
                break;
        case TRACKER_PROCESS:
                watch = find_or_take(tracker, request.pid, request.start_time);
                result = watch < 0 ? watch : 0;
                break;
        case TRACKER_COMMIT:
                result = commit(tracker, &request);
                break;
        default:
                return -EPROTO;
        }
        r = io_write_full(connection, &result, sizeof(result));
        return r < 0 || watch < 0 ? r : io_send_fd(connection, watch);
}

/** Serves one operation after the other until the root of the tree has ended. */
static void serve(struct tracker *tracker, int root) {
        int connection = -EBADF;

        for (;;) {
                struct pollfd polled[] = {
                        { .fd = root, .events = POLLIN },
                        { .fd = connection >= 0 ? connection : TRACKER_LISTENER_FD, .events = POLLIN },
                };

                if (poll(polled, ELEMENTSOF(polled), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        break;
                }
                if (polled[0].revents && connection < 0)
                        break;
                if (!polled[1].revents)
                        continue;
                if (connection < 0)
                        connection = io_accept(TRACKER_LISTENER_FD);
                else if (serve_one(tracker, connection) < 0) {
                        close(connection);
                        connection = -EBADF;
                }
        }
        if (connection >= 0)
                close(connection);
}

int write_tracker_main(int argc, char **argv) {
        struct tracker tracker = { 0 };
        uint64_t start_time;
        pid_t pid;

        if (argc != 5 || text_to_pid(argv[3], &pid) < 0 || text_to_uint(argv[4], UINT64_MAX, &start_time) < 0) {
                st_log_error("'stasis %s' is started by a dump, not by hand", WRITE_TRACKER);
                return EXIT_FAILURE;
        }
        (void)io_set_cloexec(TRACKER_LISTENER_FD, true);
        lazy_process_prepare();
        _cleanup_close_ int root = pidfd_open(pid, 0);
        if (root >= 0 && proc_is_alive(pid, start_time))
                serve(&tracker, root);
        (void)unlink(argv[2]);
        while (tracker.n > 0)
                drop(&tracker, 0);
        free(tracker.processes);
        return EXIT_SUCCESS;
}
