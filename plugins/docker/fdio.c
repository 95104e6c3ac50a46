/* SPDX-License-Identifier: Apache-2.0 */
#include "fdio.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int fdio_check(int cancel_fd, struct st_error **err) {
        struct pollfd cancel = { .fd = cancel_fd, .events = POLLIN };
        if (cancel_fd >= 0 && poll(&cancel, 1, 0) > 0)
                return st_error_set(err, ECANCELED, "cancelled");
        return 0;
}

void fdio_hint_full(int fd, struct st_error **err) {
        int number = err ? st_error_number(*err) : 0;
        char link[64], path[PATH_MAX];
        struct statvfs vfs;

        if (number != -ENOSPC && number != -EDQUOT)
                return;
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, path, sizeof(path) - 1);
        if (n <= 0 || fstatvfs(fd, &vfs) < 0)
                return;
        path[n] = 0;
        if (vfs.f_files > 0 && vfs.f_favail == 0)
                st_error_hint(err, "the file system of %s has no inodes left: remove files there", path);
        else
                st_error_hint(err, "free space in the file system of %s: %llu MiB of %llu MiB are left", path,
                              (unsigned long long)vfs.f_bavail * vfs.f_frsize >> 20,
                              (unsigned long long)vfs.f_blocks * vfs.f_frsize >> 20);
}

static int wait_for(int fd, short events, int cancel_fd, const char *what, struct st_error **err) {
        struct pollfd fds[] = { { .fd = cancel_fd, .events = POLLIN }, { .fd = fd, .events = events } };
        while (poll(fds, 2, -1) < 0)
                if (errno != EINTR)
                        return st_error_errno(err, errno, "cannot wait for %s", what);
        return fds[0].revents ? st_error_set(err, ECANCELED, "cancelled") : 0;
}

/* After poll(2) says that there is room, a blocking pipe takes this much without making us wait (pipe(7)). */
static size_t step(int fd, size_t size) {
        struct stat st;
        if (size <= PIPE_BUF || (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)))
                return size;
        return PIPE_BUF;
}

int fdio_write(int fd, const void *data, size_t size, int cancel_fd, const char *what, struct st_error **err) {
        const char *p = data;
        while (size > 0) {
                int r = wait_for(fd, POLLOUT, cancel_fd, what, err);
                if (r < 0)
                        return r;
                ssize_t n = write(fd, p, step(fd, size));
                if (n < 0 && (errno == EINTR || errno == EAGAIN))
                        continue;
                if (n < 0) {
                        r = st_error_errno(err, errno, "cannot write %s", what);
                        fdio_hint_full(fd, err);
                        return r;
                }
                p += n;
                size -= (size_t)n;
        }
        return 0;
}

ssize_t fdio_read(int fd, void *data, size_t size, int cancel_fd, const char *what, struct st_error **err) {
        for (;;) {
                int r = wait_for(fd, POLLIN, cancel_fd, what, err);
                if (r < 0)
                        return r;
                ssize_t n = read(fd, data, size);
                if (n >= 0)
                        return n;
                if (errno != EINTR && errno != EAGAIN)
                        return st_error_errno(err, errno, "cannot read %s", what);
        }
}
