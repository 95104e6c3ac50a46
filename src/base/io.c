/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

#define LINE_FILE ((size_t)4096) /* a page: no file of /proc/sys or /sys is longer in its first line */

/* Waits until a non-blocking descriptor is ready. */
static int wait_for(int fd, short events) {
        struct pollfd p = { .fd = fd, .events = events };

        while (poll(&p, 1, -1) < 0)
                if (errno != EINTR)
                        return -errno;
        return 0;
}

int io_read_full(int fd, void *buffer, size_t n) {
        char *to = buffer;

        while (n > 0) {
                ssize_t got = read(fd, to, n);

                if (got > 0) {
                        to += got;
                        n -= (size_t)got;
                } else if (got == 0) {
                        return -ENODATA;
                } else if (errno == EAGAIN) {
                        int r = wait_for(fd, POLLIN);
                        if (r < 0)
                                return r;
                } else if (errno != EINTR) {
                        return -errno;
                }
        }
        return 0;
}

ssize_t io_read_at(int fd, void *buffer, size_t n, uint64_t offset) {
        size_t have = 0;

        if (offset > (uint64_t)INT64_MAX - n)
                return -EOVERFLOW;
        while (have < n) {
                ssize_t got = pread(fd, (char *)buffer + have, n - have, (off_t)(offset + have));

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        break;
                have += (size_t)got;
        }
        return (ssize_t)have;
}

int io_write_full(int fd, const void *buffer, size_t n) {
        const char *from = buffer;

        while (n > 0) {
                ssize_t put = write(fd, from, n);

                if (put >= 0) {
                        from += put;
                        n -= (size_t)put;
                } else if (errno == EAGAIN) {
                        int r = wait_for(fd, POLLOUT);
                        if (r < 0)
                                return r;
                } else if (errno != EINTR) {
                        return -errno;
                }
        }
        return 0;
}

int io_read_file(int dir_fd, const char *path, size_t limit, char **ret, size_t *ret_size) {
        _cleanup_free_ char *content = NULL;
        size_t size = 0, room = 0;
        struct stat st;

        _cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        for (;;) {
                if (size == room) {
                        /* A file of /proc says its size is 0. One byte more than the size shows the end at once. */
                        size_t more = room > 0 ? room : 4096;
                        if (room == 0 && S_ISREG(st.st_mode) && st.st_size > 4095)
                                more = (size_t)st.st_size < limit ? (size_t)st.st_size + 1 : limit + 1;
                        if (room + more > limit && limit < SIZE_MAX - 1)
                                more = limit + 1 - room;

                        char *grown = realloc(content, room + more + 1);
                        if (!grown)
                                return -ENOMEM;
                        content = grown;
                        room += more;
                }

                ssize_t got = read(fd, content + size, room - size);
                if (got < 0 && errno != EINTR)
                        return -errno;
                if (got == 0)
                        break;
                size += got > 0 ? (size_t)got : 0;
                if (size > limit)
                        return -EFBIG;
        }
        content[size] = 0;
        if (ret_size)
                *ret_size = size;
        *ret = TAKE_PTR(content);
        return 0;
}

/* Makes the rename of a file in this directory last. */
bool io_is_at(int fd, int dir_fd, const char *path, int flags) {
        struct stat opened, named;

        return fstat(fd, &opened) == 0 && fstatat(dir_fd, path, &named, flags) == 0 && opened.st_ino == named.st_ino &&
               opened.st_dev == named.st_dev;
}

int io_sync_directory_of(const char *path) {
        _cleanup_free_ char *directory = path_directory(path);
        _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

char *io_read_line(const char *path) {
        char *text = NULL;

        if (io_read_file(AT_FDCWD, path, LINE_FILE, &text, NULL) < 0 || !text)
                return NULL;
        text[strcspn(text, "\n")] = '\0';
        return text;
}

int io_replace_file(const char *path, const void *data, size_t size, mode_t mode, bool sync) {
        _cleanup_free_ char *directory = path_directory(path);
        _cleanup_free_ char *name = xasprintf(".%s.XXXXXX", path_name(path));
        _cleanup_free_ char *temporary = path_join(directory, name);

        _cleanup_close_ int fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0)
                return -errno;

        int r = io_write_full(fd, data, size);
        if (r == 0 && (fchmod(fd, mode) < 0 || (sync && fsync(fd) < 0) || rename(temporary, path) < 0))
                r = -errno;
        if (r < 0) {
                unlink(temporary);
                return r;
        }
        return sync ? io_sync_directory_of(path) : 0;
}

/* Is there something that a rename would destroy? */
static bool is_written_into(const char *path) {
        struct stat st;

        if (lstat(path, &st) < 0)
                return false;
        if (S_ISLNK(st.st_mode))
                return (st.st_uid == 0 || st.st_uid == geteuid()) && stat(path, &st) == 0;
        return !S_ISREG(st.st_mode);
}

int io_put_file(const char *path, const void *data, size_t size, mode_t mode) {
        if (!is_written_into(path))
                return io_replace_file(path, data, size, mode, false);

        /* Not waiting for somebody to read a FIFO. */
        _cleanup_close_ int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0)
                return -errno;

        int r = io_write_full(fd, data, size);
        return r < 0 ? r : 1;
}

int io_can_put_file(const char *path) {
        _cleanup_free_ char *directory = path_directory(path);
        struct stat st;

        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
                return -EISDIR;
        return access(is_written_into(path) ? path : directory, W_OK) < 0 ? -errno : 0;
}

/** Opens one component, made when it is missing, by its parent: nobody can put another in its place meanwhile. */
static int enter_directory(int parent, const char *name, mode_t mode, uid_t uid, gid_t gid) {
        bool made = mkdirat(parent, name, mode) == 0;
        if (!made && errno != EEXIST)
                return -errno;
        _cleanup_close_ int fd = openat(parent, name, O_PATH | O_DIRECTORY | O_CLOEXEC | (made ? O_NOFOLLOW : 0));
        if (fd < 0 || (made && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0))
                return -errno;
        return TAKE_FD(fd);
}

int io_make_directories_for(const char *path, mode_t mode, uid_t uid, gid_t gid) {
        if (isempty(path))
                return -EINVAL;
        _cleanup_free_ char *parts = xstrdup(path);
        _cleanup_close_ int fd = open(path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        char *rest = parts;

        for (const char *part; fd >= 0 && (part = strsep(&rest, "/"));) {
                if (!*part)
                        continue;
                int next = enter_directory(fd, part, mode, uid, gid);
                if (next < 0)
                        return next;
                close(fd);
                fd = next;
        }
        return fd < 0 ? -errno : 0;
}

int io_make_directories(const char *path, mode_t mode) {
        return io_make_directories_for(path, mode, (uid_t)-1, (gid_t)-1);
}

/* What tells one mounted file system from another; the mount ID also tells a bind mount of the same one. */
struct mounted {
        unsigned major, minor;
        uint64_t id;
};

static int mounted_at(int fd, struct mounted *ret) {
        struct statx stx;

        if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_MNT_ID, &stx) < 0)
                return -errno;
        *ret = (struct mounted){
                .major = stx.stx_dev_major,
                .minor = stx.stx_dev_minor,
                .id = stx.stx_mask & STATX_MNT_ID ? stx.stx_mnt_id : 0,
        };
        return 0;
}

static bool mounted_equal(const struct mounted *a, const struct mounted *b) {
        return a->major == b->major && a->minor == b->minor && a->id == b->id;
}

static int remove_children(DIR *directory, const struct mounted *mount);

/* Removes an entry, going down into a directory. Goes on after a failure; returns the first. */
static int remove_entry(int parent, const char *name, const struct mounted *mount) {
        struct mounted here = { 0 };

        if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno != EISDIR && errno != EPERM) /* EPERM is what POSIX gives for a directory */
                return -errno;
        int failure = -errno;

        _cleanup_close_ int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOTDIR || errno == ELOOP ? failure : -errno;
        int r = mounted_at(fd, &here);
        if (r < 0)
                return r;
        if (mount && !mounted_equal(mount, &here))
                return -EXDEV;

        _cleanup_closedir_ DIR *directory = fdopendir(fd);
        if (!directory)
                return -errno;
        TAKE_FD(fd);
        r = remove_children(directory, &here);
        if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT && r == 0)
                r = -errno;
        return r;
}

static int remove_children(DIR *directory, const struct mounted *mount) {
        int r = 0;

        for (;;) {
                errno = 0;
                struct dirent *entry = readdir(directory);
                if (!entry)
                        return r == 0 ? -errno : r;
                if (streq(entry->d_name, ".") || streq(entry->d_name, ".."))
                        continue;
                int q = remove_entry(dirfd(directory), entry->d_name, mount);
                if (r == 0)
                        r = q;
        }
}

int io_remove_tree(const char *path) {
        return remove_entry(AT_FDCWD, path, NULL);
}

int io_socketpair(int fds[2]) {
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0;
}

static int unix_address(const char *path, struct sockaddr_un *ret) {
        size_t n = strlen(path);

        if (n == 0)
                return -EINVAL;
        if (n >= sizeof(ret->sun_path))
                return -ENAMETOOLONG;
        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        memcpy(ret->sun_path, path, n);
        return 0;
}

int io_connect_unix(const char *path) {
        struct sockaddr_un address;
        int r = unix_address(path, &address);
        if (r < 0)
                return r;

        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                if (errno != EINTR)
                        return -errno;
        return TAKE_FD(fd);
}

/* Is the file at the address a socket that nobody listens on, left behind by a process that was killed? */
static bool is_stale_socket(const struct sockaddr_un *address) {
        struct stat st;

        if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
                return false;
        /* Non-blocking: a listener with a full queue must not stop us, and is alive. */
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return false;
        return connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno == ECONNREFUSED;
}

int io_listen_unix(const char *path, mode_t mode, int backlog) {
        struct sockaddr_un address;
        int r = unix_address(path, &address);
        if (r < 0)
                return r;

        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        /* Linux gives the file the mode of the socket less the umask: never, not for a moment, more than asked for. */
        if (fchmod(fd, mode) < 0)
                return -errno;
        r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
        if (r == -EADDRINUSE && is_stale_socket(&address) && unlink(path) == 0)
                r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
        if (r < 0)
                return r;
        if (chmod(path, mode) < 0 || listen(fd, backlog) < 0) {
                r = -errno;
                unlink(path);
                return r;
        }
        return TAKE_FD(fd);
}

int io_accept(int fd) {
        for (;;) {
                int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
                if (connection >= 0)
                        return connection;
                if (errno != EINTR)
                        return -errno;
        }
}

int io_send_fd(int socket, int fd) {
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        char byte = 0;
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
        while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) {
                int r = errno == EAGAIN ? wait_for(socket, POLLOUT) : errno == EINTR ? 0 : -errno;
                if (r < 0)
                        return r;
        }
        return 0;
}

int io_receive_fd(int socket) {
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        char byte;
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        _cleanup_close_ int fd = -EBADF;
        ssize_t n;

        while ((n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0) {
                int r = errno == EAGAIN ? wait_for(socket, POLLIN) : errno == EINTR ? 0 : -errno;
                if (r < 0)
                        return r;
        }
        if (n == 0)
                return -ENODATA;

        bool others = message.msg_flags & MSG_CTRUNC;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                /* Alignment leaves room for a second descriptor: it came with the message and must be closed. */
                for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
                        int received;

                        memcpy(&received, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (fd >= 0) {
                                close(received);
                                others = true;
                        } else
                                fd = received;
                }
        }
        return fd < 0 || others ? -EPROTO : TAKE_FD(fd);
}

int io_memfd(const char *name, const void *data, size_t size) {
        _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;

        int r = io_write_full(fd, data, size);
        if (r < 0)
                return r;
        return lseek(fd, 0, SEEK_SET) < 0 ? -errno : TAKE_FD(fd);
}

int io_set_nonblocking(int fd, bool on) {
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0)
                return -errno;
        flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
        return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int io_set_cloexec(int fd, bool on) {
        return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}
