/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The client's side of the image streamer protocol, as CRIU speaks it. */

#include "test_image_common.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

/** Connects to a socket in a directory. */
static inline int criu_connect(const char *directory, const char *name) {
        _cleanup_free_ char *path = path_join(directory, name);
        int fd = io_connect_unix(path);
        assert_true(fd >= 0);
        return fd;
}

static inline bool criu_try_name(int connection, const char *name) {
        uint8_t message[256];
        uint32_t length = (uint32_t)strlen(name);
        assert_true(length < 128);
        uint32_t size = length + 2;
        memcpy(message, &size, 4);
        message[4] = 0x0a;
        message[5] = (uint8_t)length;
        memcpy(message + 6, name, length);
        return send(connection, message, 6 + length, MSG_NOSIGNAL) == (ssize_t)length + 6;
}

static inline void criu_send_name(int connection, const char *name) {
        assert_true(criu_try_name(connection, name));
}

/** Names a file of a dump and hands over its pipe. @return the end to write to */
static inline int criu_dump_file(int connection, const char *name) {
        int fds[2];
        criu_send_name(connection, name);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(io_send_fd(connection, fds[0]), 0);
        close(fds[0]);
        return fds[1];
}

/** Asks for a file of a restore. @return the end to read from; -ENOENT; -EPIPE: the server gave up */
static inline int criu_restore_file(int connection, const char *name) {
        uint8_t reply[6];
        int fds[2];
        if (!criu_try_name(connection, name) || io_read_full(connection, reply, sizeof(reply)) < 0)
                return -EPIPE;
        assert_memory_equal(reply, "\2\0\0\0\10", 5);
        if (reply[5] == 0)
                return -ENOENT;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        int r = io_send_fd(connection, fds[1]);
        close(fds[1]);
        if (r < 0) {
                close(fds[0]);
                return -EPIPE;
        }
        return fds[0];
}
