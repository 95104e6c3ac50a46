/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_root.h"

#include <errno.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/cleanup.h"

#define UNIX_SCHEME "unix://"

/*
 * Who listens at a socket (SO_PEERCRED, unix(7): who called listen(2)). Under socket activation that is the service
 * manager, in whose mount namespace the engine is, too. 0: somebody whom we do not see.
 */
static int listener_of(const char *path, pid_t *ret, struct st_error **err) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct ucred peer = { 0 };
        socklen_t size = sizeof(peer);

        if (strlen(path) >= sizeof(address.sun_path))
                return st_error_set(err, EINVAL, "the path of the Docker engine's socket %s is too long", path);
        memcpy(address.sun_path, path, strlen(path));
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
                return st_error_errno(err, errno, "cannot ask who listens at %s", path);
        *ret = peer.pid;
        return 0;
}

int docker_root_open(const char *address, int *ret_fd, struct st_error **err) {
        char path[64] = "/";
        pid_t pid = 0;

        if (strncmp(address, UNIX_SCHEME, strlen(UNIX_SCHEME)) == 0) {
                int r = listener_of(address + strlen(UNIX_SCHEME), &pid, err);
                if (r < 0)
                        return r;
                if (pid <= 0) {
                        r = st_error_set(err, EREMOTE,
                                         "the files of the Docker engine at %s cannot be reached: it is in "
                                         "another PID namespace",
                                         address);
                        st_error_hint(err, "run stasis where the engine runs");
                        return r;
                }
                snprintf(path, sizeof(path), "/proc/%d/root", (int)pid);
        }
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        /* Who made the socket is gone, and another process serves it: the machine's own root is the best guess. */
        if (fd < 0 && errno == ENOENT)
                fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot reach the files of the Docker engine at %s by %s", address,
                                      path);
        *ret_fd = fd;
        return 0;
}

int docker_root_listener(const char *address, pid_t *ret, struct st_error **err) {
        *ret = 0;
        return strncmp(address, UNIX_SCHEME, strlen(UNIX_SCHEME)) == 0
                       ? listener_of(address + strlen(UNIX_SCHEME), ret, err)
                       : 0;
}

int docker_root_openat(int root_fd, const char *path, int flags, mode_t mode) {
        struct open_how how = {
                .flags = (unsigned)flags | O_CLOEXEC,
                .mode = flags & O_CREAT ? mode : 0,
                .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        };
        long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

        return fd < 0 ? -errno : (int)fd;
}

const char *docker_root_fd_path(int fd, char path[static DOCKER_ROOT_PATH_MAX]) {
        snprintf(path, DOCKER_ROOT_PATH_MAX, "/proc/self/fd/%d", fd);
        return path;
}
