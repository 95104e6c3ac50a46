/* SPDX-License-Identifier: Apache-2.0 */

/* Exchanging the content of an upper directory for a saved one, and removing what is not needed any more. */

#include "layer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "../common/cleanup.h"
#include "layer_walk.h"

#define DIRECTORY_CLOEXEC (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* A new directory with the owner and mode of the one that it will replace. */
static int make_aside(int home_fd, const char *upper, char name[static LAYER_NAME_MAX], struct st_error **err) {
        struct stat st;
        uint64_t random;

        if (fstatat(home_fd, upper, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return st_error_errno(err, errno, "cannot look at the upper directory %s", upper);
        if (!S_ISDIR(st.st_mode))
                return st_error_set(err, ENOTDIR, "the upper directory %s is no directory", upper);
        do {
                if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                        return st_error_errno(err, errno, "cannot make a name");
                snprintf(name, LAYER_NAME_MAX, LAYER_ASIDE_PREFIX "%016" PRIx64, random);
        } while (mkdirat(home_fd, name, 0700) < 0 && errno == EEXIST);

        if (fchownat(home_fd, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
            fchmodat(home_fd, name, st.st_mode & 07777, 0) < 0)
                return st_error_errno(err, errno, "cannot make a directory beside the upper directory %s", upper);
        return 0;
}

static int exchange(int home_fd, const char *upper, const char *aside, struct st_error **err) {
        if (renameat2(home_fd, upper, home_fd, aside, RENAME_EXCHANGE) < 0)
                return st_error_errno(err, errno, "cannot exchange the upper directory %s and %s", upper, aside);
        return 0;
}

int layer_replace(int home_fd, const char *upper, int tar_fd, const struct layer_io *io, struct layer_stats *stats,
                  char ret_aside[static LAYER_NAME_MAX], struct st_error **err) {
        *ret_aside = 0;
        int r = make_aside(home_fd, upper, ret_aside, err);
        if (r == 0) {
                _cleanup_close_ int fd = openat(home_fd, ret_aside, DIRECTORY_CLOEXEC);
                if (fd < 0)
                        r = st_error_errno(err, errno, "cannot open the directory beside the upper directory %s",
                                           upper);
                else
                        r = layer_load(tar_fd, fd, io, stats, err);
        }
        if (r == 0)
                r = exchange(home_fd, upper, ret_aside, err);
        if (r < 0 && *ret_aside) {
                layer_remove(home_fd, ret_aside, NULL); /* the first failure is the one to be told */
                *ret_aside = 0;
        }
        return r;
}

int layer_replace_undo(int home_fd, const char *upper, const char *aside, struct st_error **err) {
        int r = exchange(home_fd, upper, aside, err);
        return r < 0 ? r : layer_remove(home_fd, aside, err);
}

int layer_replace_commit(int home_fd, const char *upper, const char *aside, struct st_error **err) {
        /* An empty one is simply removed: there is nothing that a loss of power could take. */
        if (unlinkat(home_fd, aside, AT_REMOVEDIR) == 0)
                return 0;
        if (syncfs(home_fd) < 0)
                return st_error_errno(err, errno, "cannot sync the upper directory %s", upper);
        return layer_remove(home_fd, aside, err);
}

/* An inode that is immutable or append-only can neither be removed nor have names removed from it. */
static bool make_removable(int fd) {
        int flags = 0;
        if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0 || !(flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)))
                return false;
        flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
        return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
}

static int remove_file(struct layer_walk *walk, const char *name, struct st_error **err) {
        if (unlinkat(walk->fd, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno == EPERM) {
                struct stat st;
                bool removable = make_removable(walk->fd);
                if (fstatat(walk->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
                        _cleanup_close_ int fd = openat(walk->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
                        removable |= fd >= 0 && make_removable(fd);
                }
                if (removable && unlinkat(walk->fd, name, 0) == 0)
                        return 0;
                errno = EPERM;
        }
        return st_error_errno(err, errno, "cannot remove \"%s\" in \"%s\"", name, walk->path);
}

static int remove_directory(int parent_fd, const char *name, const char *shown, struct st_error **err) {
        if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
                return 0;
        if (errno == EPERM) {
                _cleanup_close_ int fd = openat(parent_fd, name, DIRECTORY_CLOEXEC);
                bool removable = make_removable(parent_fd);
                removable |= fd >= 0 && make_removable(fd);
                if (removable && unlinkat(parent_fd, name, AT_REMOVEDIR) == 0)
                        return 0;
                errno = EPERM;
        }
        return st_error_errno(err, errno, "cannot remove the directory \"%s\"", shown);
}

/* Leaves the present directory, which is empty now, and removes it. */
static int leave_and_remove(struct layer_walk *walk, struct st_error **err) {
        char name[LAYER_NAME_MAX];
        const char *slash = strrchr(walk->path, '/');

        snprintf(name, sizeof(name), "%s", slash ? slash + 1 : walk->path);
        int r = layer_walk_leave(walk, err);
        return r < 0 ? r : remove_directory(walk->fd, name, name, err);
}

static int remove_content(struct layer_walk *walk, struct st_error **err) {
        int r = layer_walk_list(walk, err);
        while (r == 0) {
                struct layer_level *level = layer_walk_level(walk);
                if (level->next == level->n_names) {
                        if (walk->depth == 0)
                                break;
                        r = leave_and_remove(walk, err);
                        continue;
                }
                const char *name = level->names[level->next++];
                struct stat st;
                if (fstatat(walk->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        r = errno == ENOENT ? 0 : st_error_errno(err, errno, "cannot look at \"%s\"", name);
                else if (!S_ISDIR(st.st_mode))
                        r = remove_file(walk, name, err);
                else {
                        r = layer_walk_enter(walk, name, err);
                        if (r == 0)
                                r = layer_walk_list(walk, err);
                }
        }
        return r;
}

int layer_remove(int parent_fd, const char *name, struct st_error **err) {
        __attribute__((cleanup(layer_walk_end))) struct layer_walk walk = LAYER_WALK_NONE;
        _cleanup_close_ int fd = openat(parent_fd, name, DIRECTORY_CLOEXEC);

        if (fd < 0)
                return errno == ENOENT ? 0 : st_error_errno(err, errno, "cannot remove \"%s\"", name);
        int r = layer_walk_begin(&walk, fd, err);
        if (r == 0)
                r = remove_content(&walk, err);
        if (r == 0)
                r = remove_directory(parent_fd, name, name, err);
        if (r < 0)
                st_error_wrap(err, "cannot remove \"%s\"", name);
        return r;
}
