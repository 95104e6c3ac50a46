/* SPDX-License-Identifier: Apache-2.0 */
#include "base/plain_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

#define PIECE ((size_t)256 << 10)
/* More files of one name and second than this are not for anybody to keep apart. */
#define NAMES_MAX 1000
#define XATTR_NAMES_MAX ((size_t)64 << 10)

int plain_file_look(int dir_fd, const char *path, int flags, struct plain_file *ret) {
        struct statx stx;

        if (statx(dir_fd, path, flags | AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, &stx) < 0)
                return -errno;
        *ret = (struct plain_file){
                .dev = makedev(stx.stx_dev_major, stx.stx_dev_minor),
                .inode = stx.stx_ino,
                .mtime = { .tv_sec = stx.stx_mtime.tv_sec, .tv_nsec = stx.stx_mtime.tv_nsec },
                .size = stx.stx_size,
                .mode = stx.stx_mode,
                .uid = stx.stx_uid,
                .gid = stx.stx_gid,
                .links = stx.stx_nlink,
        };
        if (stx.stx_mask & STATX_BTIME)
                ret->birth = (struct timespec){ .tv_sec = stx.stx_btime.tv_sec, .tv_nsec = stx.stx_btime.tv_nsec };
        return 0;
}

bool plain_file_is_same(const struct plain_file *a, const struct plain_file *b) {
        /* An inode number is used again for another file; then that was born later. */
        return a->dev == b->dev && a->inode == b->inode &&
               (a->birth.tv_sec == 0 || b->birth.tv_sec == 0 || time_equal(a->birth, b->birth));
}

bool plain_file_is_unchanged(const struct plain_file *a, const struct plain_file *b) {
        return plain_file_is_same(a, b) && a->size == b->size && time_equal(a->mtime, b->mtime);
}

static int open_plain(int dir_fd, const char *path, int flags) {
        struct open_how how = {
                .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK),
                .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        };
        long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));

        if (fd < 0 && errno == EPERM && (flags & O_NOATIME)) {
                how.flags &= ~(uint64_t)O_NOATIME;
                fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
        }
        return fd < 0 ? -errno : (int)fd;
}

int plain_file_open(const char *path, int flags) {
        return open_plain(AT_FDCWD, path, flags);
}

int plain_file_open_directory(const char *path, const char **ret_name) {
        _cleanup_free_ char *directory = path_directory(path);

        *ret_name = path_name(path);
        return open_plain(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY);
}

int plain_file_open_at(int dir_fd, const char *name, int flags) {
        _cleanup_close_ int fd = open_plain(dir_fd, name, flags);
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        return S_ISREG(st.st_mode) ? TAKE_FD(fd) : -EINVAL;
}

/* For file systems between which the kernel does not copy. */
static int copy_by_hand(int from, off_t in, int to, off_t out, uint64_t length) {
        _cleanup_free_ char *buffer = malloc(PIECE);

        if (!buffer)
                return -ENOMEM;
        while (length > 0) {
                ssize_t n = pread(from, buffer, length < PIECE ? (size_t)length : PIECE, in);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -ENODATA;
                for (ssize_t at = 0; at < n;) {
                        ssize_t put = pwrite(to, buffer + at, (size_t)(n - at), out + at);

                        if (put < 0 && errno == EINTR)
                                continue;
                        if (put <= 0)
                                return put < 0 ? -errno : -ENOSPC;
                        at += put;
                }
                in += n;
                out += n;
                length -= (uint64_t)n;
        }
        return 0;
}

int plain_file_copy(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t length) {
        off_t in = (off_t)from_offset, out = (off_t)to_offset;

        while (length > 0) {
                ssize_t n = copy_file_range(from, &in, to, &out, length < SSIZE_MAX ? (size_t)length : SSIZE_MAX, 0);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
                        return -errno;
                if (n <= 0)
                        return copy_by_hand(from, in, to, out, length);
                length -= (uint64_t)n;
        }
        return 0;
}

static void copy_attribute(int from, int to, const char *name) {
        _cleanup_free_ char *value = NULL;
        ssize_t n = fgetxattr(from, name, NULL, 0);

        if (n < 0)
                return;
        value = xmalloc((size_t)n + 1);
        n = fgetxattr(from, name, value, (size_t)n);
        if (n >= 0)
                (void)fsetxattr(to, name, value, (size_t)n, 0);
}

int plain_file_copy_access(int from, int to) {
        _cleanup_free_ char *names = NULL;
        struct stat st;
        ssize_t n;

        if (fstat(from, &st) < 0)
                return -errno;
        /* The owner first: changing it takes set-user-ID bits away. Not allowed to an ordinary user, who owns it. */
        if (fchown(to, st.st_uid, st.st_gid) < 0 && errno != EPERM)
                return -errno;
        if (fchmod(to, st.st_mode & 07777) < 0)
                return -errno;

        n = flistxattr(from, NULL, 0);
        if (n <= 0 || (size_t)n > XATTR_NAMES_MAX)
                return 0;
        names = xmalloc((size_t)n + 1);
        n = flistxattr(from, names, (size_t)n);
        if (n <= 0)
                return 0;
        names[n] = 0;
        for (const char *name = names; name < names + n; name += strlen(name) + 1)
                copy_attribute(from, to, name);
        return 0;
}

int plain_file_new(int dir_fd, struct nameless_file *ret) {
        *ret = (struct nameless_file){ .dir_fd = dir_fd };
        ret->fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        /* Not every file system can. */
        for (unsigned i = 0; ret->fd < 0 && i < NAMES_MAX; i++) {
                (void)snprintf(ret->hidden, sizeof(ret->hidden), ".stasis-new-%d-%u", (int)getpid(), i);
                ret->fd = openat(dir_fd, ret->hidden, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
                if (ret->fd < 0 && errno != EEXIST)
                        break;
        }
        return ret->fd < 0 ? -errno : 0;
}

void plain_file_discard(struct nameless_file *file) {
        if (file->fd < 0)
                return;
        if (file->hidden[0])
                (void)unlinkat(file->dir_fd, file->hidden, 0);
        close(file->fd);
        *file = (struct nameless_file)NAMELESS_FILE_NULL;
}

/** BASE.SUFFIX or BASE.SUFFIX-N, BASE cut so that it is a name (255 bytes). */
static char *companion_name(const char *base, const char *suffix, unsigned number) {
        _cleanup_free_ char *end = number == 1 ? xasprintf(".%s", suffix) : xasprintf(".%s-%u", suffix, number);
        size_t room = NAME_MAX - strlen(end), n = strlen(base);

        return xasprintf("%.*s%s", (int)(n < room ? n : room), base, end);
}

/** Links what `from` names to the first name that is free. linkat(2) never replaces anything. */
static int link_companion(int from_dir, const char *from, int flags, int dir_fd, const char *base, const char *suffix,
                          char **ret_name) {
        for (unsigned i = 1; i <= NAMES_MAX; i++) {
                _cleanup_free_ char *name = companion_name(base, suffix, i);

                if (linkat(from_dir, from, dir_fd, name, flags) == 0) {
                        *ret_name = TAKE_PTR(name);
                        return 0;
                }
                if (errno != EEXIST)
                        return -errno;
        }
        return -EEXIST;
}

/** Where there are no hard links: renames, never over anything. */
static int rename_companion(int dir_fd, const char *from, const char *base, const char *suffix, char **ret_name) {
        for (unsigned i = 1; i <= NAMES_MAX; i++) {
                _cleanup_free_ char *name = companion_name(base, suffix, i);

                if (renameat2(dir_fd, from, dir_fd, name, RENAME_NOREPLACE) == 0) {
                        *ret_name = TAKE_PTR(name);
                        return 0;
                }
                if (errno != EEXIST)
                        return -errno;
        }
        return -EEXIST;
}

int plain_file_publish(struct nameless_file *file, const char *base, const char *suffix, char **ret_name) {
        char magic[32];
        int r;

        if (fsync(file->fd) < 0)
                return -errno;
        if (file->hidden[0]) {
                r = rename_companion(file->dir_fd, file->hidden, base, suffix, ret_name);
                if (r >= 0)
                        file->hidden[0] = 0;
        } else {
                (void)snprintf(magic, sizeof(magic), "/proc/self/fd/%d", file->fd);
                r = link_companion(AT_FDCWD, magic, AT_SYMLINK_FOLLOW, file->dir_fd, base, suffix, ret_name);
        }
        if (r >= 0 && fsync(file->dir_fd) < 0 && errno != EINVAL)
                r = -errno;
        return r;
}

int plain_file_link(int dir_fd, const char *name, const struct plain_file *expected, const char *suffix,
                    char **ret_name) {
        _cleanup_free_ char *link = NULL;
        struct plain_file now = { 0 };
        int r;

        r = link_companion(dir_fd, name, 0, dir_fd, name, suffix, &link);
        if (r < 0)
                return r;
        assert(link);
        r = plain_file_look(dir_fd, link, AT_SYMLINK_NOFOLLOW, &now);
        if (r >= 0 && !plain_file_is_same(&now, expected))
                r = -ESTALE;
        if (r >= 0 && fsync(dir_fd) < 0 && errno != EINVAL)
                r = -errno;
        if (r < 0) {
                (void)unlinkat(dir_fd, link, 0);
                return r;
        }
        *ret_name = TAKE_PTR(link);
        return 0;
}

int plain_file_has_writers(int fd) {
        /* Whoever opens it in this moment makes the kernel send us a signal: one that is ignored by default. */
        if (fcntl(fd, F_SETSIG, SIGURG) < 0)
                return -errno;
        if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
                return errno == EAGAIN || errno == EBUSY ? 1 : -errno;
        (void)fcntl(fd, F_SETLEASE, F_UNLCK);
        return 0;
}
