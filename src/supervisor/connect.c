/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/path.h"
#include "supervisor/protocol.h"

char *supervisor_socket_path(const char *dir) {
        return path_join(dir, SUPERVISOR_SOCKET);
}

int supervisor_connect(const char *dir) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;

        if (dir_fd < 0)
                return -errno;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        /* A name that always fits into the 108 bytes. */
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" SUPERVISOR_SOCKET, dir_fd);
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
                return -errno;
        return TAKE_FD(fd);
}
