/* SPDX-License-Identifier: Apache-2.0 */
#include "image/streamer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

/** Field 1 of wire type 2, see protobuf's encoding. */
#define TAG_FILENAME 0x0a

int streamer_listen(const char *work_dir, const char *name, char **ret_path, struct st_error **err) {
        _cleanup_free_ char *path = path_join(work_dir, name);
        _cleanup_close_ int fd = io_listen_unix(path, 0600, 4);
        if (fd < 0)
                return st_error_errno(err, fd, "cannot listen on %s", path);
        int r = io_set_nonblocking(fd, true);
        if (r < 0)
                return st_error_errno(err, r, "cannot listen on %s", path);
        *ret_path = TAKE_PTR(path);
        return TAKE_FD(fd);
}

/** Reads until the message holds `want` bytes. @return 1, 0 at the end between two messages, -EAGAIN, -errno */
static int fill(struct streamer *streamer, size_t want, struct st_error **err) {
        while (streamer->have < want) {
                ssize_t n =
                        recv(streamer->socket, streamer->message + streamer->have, want - streamer->have, MSG_DONTWAIT);
                if (n > 0) {
                        streamer->have += (size_t)n;
                        continue;
                }
                if (n == 0 || errno == ECONNRESET) /* which is what it is when an answer was not read */
                        return streamer->have == 0
                                       ? 0
                                       : st_error_set(err, EPIPE, "CRIU's connection ended within a request");
                if (errno == EAGAIN)
                        return -EAGAIN;
                if (errno != EINTR)
                        return st_error_errno(err, errno, "cannot read from CRIU's connection");
        }
        return 1;
}

/** The name within a message of n bytes, a view; NULL: it is not one. */
static const uint8_t *find_name(const uint8_t *message, size_t n, size_t *ret_length) {
        if (n < 2 || message[0] != TAG_FILENAME)
                return NULL;
        size_t length = message[1] & 0x7f, at = 2;
        if (message[1] & 0x80) {
                if (n < 3 || message[2] & 0x80)
                        return NULL;
                length |= (size_t)message[2] << 7;
                at = 3;
        }
        if (length != n - at)
                return NULL;
        *ret_length = length;
        return message + at;
}

int streamer_receive_name(struct streamer *streamer, char **ret, struct st_error **err) {
        int r = fill(streamer, 4, err);
        if (r <= 0)
                return r;
        uint32_t size;
        memcpy(&size, streamer->message, sizeof(size));
        if (size > sizeof(streamer->message) - 4)
                return st_error_set(err, EPROTO, "CRIU's connection: a request of %u bytes", size);
        r = fill(streamer, 4 + (size_t)size, err);
        if (r <= 0)
                return r;
        streamer->have = 0;

        size_t length;
        const uint8_t *name = find_name(streamer->message + 4, size, &length);
        if (!name || memchr(name, 0, length))
                return st_error_set(err, EPROTO, "CRIU's connection: not a request for a file");
        *ret = xstrndup((const char *)name, length);
        return 1;
}

int streamer_receive_pipe(struct streamer *streamer, struct st_error **err) {
        uint8_t byte;
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control;
        struct iovec iov = { &byte, 1 };
        struct msghdr message = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        ssize_t n = recvmsg(streamer->socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return -EAGAIN;
        if (n < 0 && errno != ECONNRESET)
                return st_error_errno(err, errno, "cannot receive a pipe from CRIU");
        if (n <= 0)
                return st_error_set(err, EPIPE, "CRIU's connection ended before the pipe of a file came");

        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
            header->cmsg_len != CMSG_LEN(sizeof(int)))
                return st_error_set(err, EPROTO, "no pipe came with a file from CRIU");
        int fd;
        memcpy(&fd, CMSG_DATA(header), sizeof(fd));
        int r = io_set_nonblocking(fd, true); /* of our end alone */
        if (r < 0) {
                close(fd);
                return st_error_errno(err, r, "cannot use a pipe from CRIU");
        }
        return fd;
}

int streamer_reply(struct streamer *streamer, bool exists) {
        const uint8_t reply[] = { 2, 0, 0, 0, 0x08, exists };
        for (size_t at = 0; at < sizeof(reply);) {
                ssize_t n = send(streamer->socket, reply + at, sizeof(reply) - at, MSG_NOSIGNAL);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0)
                        at += (size_t)n;
        }
        return 0;
}

bool streamer_is_pages(const char *name) {
        return text_after(name, "pages-") != NULL && text_ends_with(name, ".img");
}

int streamer_grow_pipe(int pipe_fd, int size) {
        int now = fcntl(pipe_fd, F_GETPIPE_SZ);
        if (now < 0)
                return -errno;
        for (; size > now; size /= 2) {
                int r = fcntl(pipe_fd, F_SETPIPE_SZ, size);
                if (r >= 0)
                        return r;
                if (errno != EPERM && errno != ENOMEM)
                        break;
        }
        return now;
}
