/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "supervisor/supervisor.h"

/* What a pty can hold: 64 KiB in its buffers, and a line of 4 KiB (drivers/tty of the kernel); generously. */
#define TERMINAL_HOLDS (256 * 1024)

/* How often a terminal that nobody has open is looked at. */
#define HUNG_MS 500

static char buffer[SUPERVISOR_FRAME_MAX];

/* Output goes on without a log that cannot be written. Beside the status it is told, once. */
static void give_log_up(struct supervisor *supervisor, int number) {
        _cleanup_free_ char *path = path_join(supervisor->dir, "log-problem");
        _cleanup_free_ char *text =
                xasprintf("cannot write %s: %s\n", supervisor->log ? supervisor->log : "the log", strerror(-number));

        (void)io_replace_file(path, text, strlen(text), 0600, false);
        if (supervisor->log_fd >= 0)
                close(supervisor->log_fd);
        supervisor->log_fd = -EBADF;
}

void stdio_open(struct supervisor *supervisor) {
        struct stat st;

        if (supervisor->log_fd < 0 && supervisor->log && supervisor->attachable) {
                /* O_NONBLOCK: a FIFO without a reader is no log. */
                supervisor->log_fd =
                        open(supervisor->log,
                             O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0600);
                if (supervisor->log_fd < 0)
                        give_log_up(supervisor, -errno);
        }
        if (supervisor->log_fd >= 0 && fstat(supervisor->log_fd, &st) == 0 && S_ISREG(st.st_mode))
                (void)io_set_nonblocking(supervisor->log_fd, false);
}

static void append_to_log(struct supervisor *supervisor, const char *data, size_t size) {
        while (supervisor->log_fd >= 0 && size > 0) {
                ssize_t n = write(supervisor->log_fd, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0) {
                        give_log_up(supervisor, n < 0 ? -errno : -ENOSPC);
                        return;
                }
                data += n;
                size -= (size_t)n;
        }
}

/* Until when the first client is waited for: from the end, or from when the job had to wait. UINT64_MAX: not yet. */
static uint64_t linger_deadline(const struct supervisor *supervisor) {
        uint64_t from = supervisor->full_since;

        if (from == 0 || (supervisor->ended > 0 && supervisor->ended < from))
                from = supervisor->ended;
        return from > 0 ? from + supervisor->linger : UINT64_MAX;
}

/* @return how many bytes may be taken now; 0: the job has to wait */
static size_t room(struct supervisor *supervisor, struct poll_set *set) {
        if (clients_attached(supervisor))
                return clients_hold(supervisor, set) ? 0 : sizeof(buffer);
        if (supervisor->linger == 0 || supervisor->ever_attached || supervisor->linger_over)
                return sizeof(buffer);

        size_t left = SUPERVISOR_BACKLOG - supervisor->backlog.size;
        if (left == 0 && supervisor->full_since == 0)
                supervisor->full_since = clock_ms();
        if (clock_ms() >= linger_deadline(supervisor)) {
                supervisor->linger_over = true;
                return sizeof(buffer);
        }
        poll_set_until(set, linger_deadline(supervisor));
        return left;
}

static void close_stream(struct supervisor *supervisor, struct stream *stream) {
        if (supervisor->in == stream->fd)
                supervisor->in = -EBADF;
        close(stream->fd);
        stream->fd = -EBADF;
        stream->settled = true;
}

/*
 * A terminal gives 4 KiB at most, so it is read until nothing is left; a pipe gives all that is there.
 *
 * @return bytes; 0: the end; -EAGAIN
 */
static ssize_t read_stream(const struct supervisor *supervisor, const struct stream *stream, size_t size) {
        size_t there = 0;

        while (there < size) {
                ssize_t n = read(stream->fd, buffer + there, size - there);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0 && there > 0)
                        break;
                if (n <= 0)
                        return n < 0 && errno == EAGAIN ? -EAGAIN : 0; /* EIO: nobody has the terminal open */
                there += (size_t)n;
                if (!supervisor->terminal)
                        break;
        }
        return (ssize_t)there;
}

static void take_from(struct supervisor *supervisor, struct stream *stream, size_t size) {
        ssize_t n = read_stream(supervisor, stream, size);

        if (n > 0) {
                append_to_log(supervisor, buffer, (size_t)n);
                if (!clients_output(supervisor, stream->kind, buffer, (size_t)n))
                        backlog_add(&supervisor->backlog, stream->kind, buffer, (size_t)n);
                stream->left -= stream->left < (size_t)n ? stream->left : (size_t)n;
                if (supervisor->ended && stream->left == 0)
                        stream->settled = true;
        } else if (n == 0 && supervisor->terminal && !supervisor->ended) {
                /* The job may open it again by way of /dev/tty; and its end would be a SIGHUP to the job. */
                stream->hung_until = clock_ms() + HUNG_MS;
        } else if (n == 0) {
                close_stream(supervisor, stream);
        } else if (supervisor->ended) {
                stream->settled = true;
        }
}

static bool is_hung(const struct supervisor *supervisor, const struct stream *stream) {
        return !supervisor->ended && stream->hung_until > clock_ms();
}

void stdio_poll(struct supervisor *supervisor, struct poll_set *set) {
        for (size_t i = 0; i < ELEMENTSOF(supervisor->streams); i++) {
                struct stream *stream = &supervisor->streams[i];

                if (stream->fd < 0)
                        continue;
                if (is_hung(supervisor, stream)) {
                        poll_set_until(set, stream->hung_until);
                        continue;
                }
                if (room(supervisor, set) == 0)
                        continue;
                if (supervisor->ended && !stream->settled)
                        poll_set_until(set, 0);
                poll_set_add(set, stream->fd, POLLIN);
        }
}

void stdio_take(struct supervisor *supervisor, const struct poll_set *set) {
        for (size_t i = 0; i < ELEMENTSOF(supervisor->streams); i++) {
                struct stream *stream = &supervisor->streams[i];

                if (stream->fd < 0 || is_hung(supervisor, stream))
                        continue;
                /* POLLOUT of a terminal is that of its input. */
                if (!(poll_set_events(set, stream->fd) & ~POLLOUT) && (!supervisor->ended || stream->settled))
                        continue;
                size_t size = room(supervisor, NULL);
                if (size > 0)
                        take_from(supervisor, stream, size);
        }
}

void stdio_root_ended(struct supervisor *supervisor) {
        for (size_t i = 0; i < ELEMENTSOF(supervisor->streams); i++) {
                struct stream *stream = &supervisor->streams[i];
                int holds = stream->fd >= 0 ? fcntl(stream->fd, F_GETPIPE_SZ) : -1;

                stream->left = holds > 0 ? (size_t)holds : TERMINAL_HOLDS;
        }
}

bool stdio_settled(const struct supervisor *supervisor) {
        for (size_t i = 0; i < ELEMENTSOF(supervisor->streams); i++)
                if (supervisor->streams[i].fd >= 0 && !supervisor->streams[i].settled)
                        return false;
        return true;
}
