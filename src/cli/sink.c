/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

/* How a stream takes bytes: how many; 0: none now; -errno. */

static int result(ssize_t n) {
        if (n >= 0)
                return (int)n;
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

static int write_own(struct sink *sink, const void *data, size_t n) {
        return result(write(sink->own, data, n));
}

static int write_socket(struct sink *sink, const void *data, size_t n) {
        return result(send(sink->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL));
}

/* A regular file takes everything. So may others that cannot be opened anew: then we wait. */
static int write_waiting(struct sink *sink, const void *data, size_t n) {
        int r = io_write_full(sink->fd, data, n);
        return r < 0 ? r : (int)n;
}

void sink_open(struct sink *sink, int fd) {
        char path[sizeof("/proc/self/fd/") + 12];
        struct stat st;

        *sink = (struct sink){ .fd = fd, .own = -EBADF, .write = write_waiting };
        if (fstat(fd, &st) < 0)
                return;
        if (S_ISSOCK(st.st_mode)) {
                sink->write = write_socket;
        } else if (S_ISFIFO(st.st_mode) || isatty(fd)) {
                (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
                sink->own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
                if (sink->own >= 0)
                        sink->write = write_own;
        }
}

void sink_close(struct sink *sink) {
        cleanup_closep(&sink->own);
        rpc_buffer_clear(&sink->pending);
}

/* @return how many were written, or the error */
static ssize_t write_some(struct sink *sink, const uint8_t *data, size_t n) {
        size_t done = 0;

        while (done < n) {
                size_t piece = n - done < INT32_MAX ? n - done : INT32_MAX;
                int r = sink->write(sink, data + done, piece);

                if (r < 0)
                        return sink->error = r;
                if (r == 0)
                        break;
                done += (size_t)r;
        }
        return (ssize_t)done;
}

int sink_put(struct sink *sink, const void *data, size_t n) {
        ssize_t done = 0;

        if (sink->error < 0)
                return sink->error;
        if (rpc_buffer_size(&sink->pending) == 0) {
                done = write_some(sink, data, n);
                if (done < 0)
                        return (int)done;
        }
        if ((size_t)done == n)
                return 0;
        uint8_t *to = rpc_buffer_extend(&sink->pending, n - (size_t)done);
        if (!to)
                return sink->error = -ENOMEM;
        memcpy(to, (const uint8_t *)data + done, n - (size_t)done);
        return 0;
}

int sink_push(struct sink *sink) {
        if (sink->error < 0)
                return sink->error;
        ssize_t done = write_some(sink, rpc_buffer_bytes(&sink->pending), rpc_buffer_size(&sink->pending));
        if (done < 0)
                return (int)done;
        rpc_buffer_consume(&sink->pending, (size_t)done);
        return 0;
}

int sink_wants(const struct sink *sink) {
        if (sink->error < 0 || rpc_buffer_size(&sink->pending) == 0)
                return -1;
        return sink->own >= 0 ? sink->own : sink->fd;
}
