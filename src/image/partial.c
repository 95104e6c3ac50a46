/* SPDX-License-Identifier: Apache-2.0 */
#include "image/partial.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "image/image.h"

#define MARK ".partial-"
#define ATTEMPTS 50
#define ATTEMPT_MS 10

char *image_partial_path(const char *destination, const char *id) {
        _cleanup_free_ char *directory = path_directory(destination);
        /* Cut, so that the longest of names (255 bytes, NAME_MAX) has a hidden one too; the id makes it unique. */
        _cleanup_free_ char *name = xasprintf(".%.160s" MARK "%s", path_name(destination), id);
        return path_join(directory, name);
}

/** An id has hexadecimal digits and dashes only; what else is made under such a name is no checkpoint. */
bool partial_is_name(const char *name) {
        const char *at = NULL;
        for (const char *next = name; name[0] == '.' && (next = strstr(next, MARK)); next++)
                at = next;
        if (!at || at == name)
                return false;
        at += strlen(MARK);
        return *at && at[strspn(at, "0123456789abcdef-")] == '\0';
}

static int create(const struct image_write *options, bool directory) {
        int flags = directory ? O_RDONLY | O_DIRECTORY : O_WRONLY | O_CREAT | O_EXCL;
        if (directory && mkdir(options->partial, 0700) < 0)
                return -errno;
        _cleanup_close_ int fd = open(options->partial, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 || fchown(fd, options->uid, options->gid) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int partial_make(const struct image_write *options, bool directory) {
        for (int i = 0;; i++) {
                _cleanup_close_ int fd = create(options, directory);
                /* Before it was locked somebody may have taken it for a leftover: then it is made anew. */
                if (fd < 0 && fd != -ENOENT)
                        return fd;
                int locked = fd < 0 ? -1 : flock(fd, LOCK_SH | LOCK_NB);
                bool taken = fd < 0 || (locked < 0 && errno == EWOULDBLOCK) ||
                             !io_is_at(fd, AT_FDCWD, options->partial, AT_SYMLINK_NOFOLLOW);
                if (!taken)
                        return TAKE_FD(fd);
                if (i + 1 == ATTEMPTS)
                        return fd < 0 ? -ENOENT : -EBUSY;
                (void)poll(NULL, 0, ATTEMPT_MS);
                if (fd >= 0 && io_is_at(fd, AT_FDCWD, options->partial, AT_SYMLINK_NOFOLLOW))
                        (void)io_remove_tree(options->partial);
        }
}

static bool clean_one(const char *directory, int dir_fd, const char *name, uid_t uid) {
        _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        _cleanup_free_ char *path = path_join(directory, name);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) ||
            (st.st_uid != geteuid() && st.st_uid != uid))
                return false;
        return flock(fd, LOCK_EX | LOCK_NB) == 0 && io_is_at(fd, dir_fd, name, AT_SYMLINK_NOFOLLOW) &&
               io_remove_tree(path) >= 0;
}

size_t partial_clean(const char *directory, uid_t uid) {
        _cleanup_closedir_ DIR *dir = opendir(directory);
        const struct dirent *entry;
        size_t n = 0;
        while (dir && (entry = readdir(dir)))
                if (partial_is_name(entry->d_name))
                        n += clean_one(directory, dirfd(dir), entry->d_name, uid);
        return n;
}
