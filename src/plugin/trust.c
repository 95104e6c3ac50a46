/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

/* As the kernel, namei.h: MAXSYMLINKS. */
#define LINKS_MAX 40

static bool owner_is_trusted(const struct stat *st) {
        return st->st_uid == 0 || st->st_uid == geteuid();
}

/* The mode of a link means nothing. */
static bool others_can_write(const struct stat *st) {
        return !S_ISLNK(st->st_mode) && (st->st_mode & (S_IWGRP | S_IWOTH)) != 0;
}

/** Is it among the plugins that were built with this program, which was not installed? */
static bool is_beside_program(const char *path) {
        _cleanup_free_ char *plugins = path_in_build_tree() ? path_plugins() : NULL;
        const char *rest = plugins ? text_after(path, plugins) : NULL;

        return rest && (*rest == 0 || *rest == '/') && !strstr(rest, "/..");
}

/**
 * Who may change the program itself need not be kept from changing its plugins: of those beside it, what is above the
 * program is not looked at, and its owner may own them.
 */
static bool is_as_safe_as_program(const struct stat *st, const char *path) {
        const char *rest = text_after(path_self(), path);
        struct stat program;

        if (rest && *rest == '/')
                return true;
        return stat(path_self(), &program) == 0 && st->st_uid == program.st_uid && !others_can_write(st);
}

static bool is_safe(const struct stat *st) {
        return owner_is_trusted(st) && !others_can_write(st);
}

static int refuse(const struct stat *st, const char *path, struct st_error **err) {
        _cleanup_free_ char *who = st->st_uid == 0 ? xstrdup("root") : xasprintf("uid %u", st->st_uid);

        int r = st_error_set(err, EPERM,
                             "%s has owner %s and mode %04o, but must belong to root%s and be writable by nobody else",
                             path, who, st->st_mode & 07777, geteuid() == 0 ? "" : " or to you");
        if (S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX))
                st_error_hint(err, "put the plugins into a directory that only root can change");
        else if (S_ISLNK(st->st_mode))
                st_error_hint(err, "chown -h root %s", path);
        else if (owner_is_trusted(st))
                st_error_hint(err, "chmod go-w %s", path);
        else
                st_error_hint(err, "chown root %s%s%s", path, others_can_write(st) ? " && chmod go-w " : "",
                              others_can_write(st) ? path : "");
        return r;
}

/* Where a descriptor really is, links resolved: what messages name. */
static char *descriptor_path(int fd) {
        char link[sizeof("/proc/self/fd/") + 3 * sizeof(int)], path[PATH_MAX];

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, path, sizeof(path));
        return n > 0 && path[0] == '/' ? xstrndup(path, (size_t)n) : xstrdup("a directory on the path");
}

static int open_root(struct st_error **err) {
        int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? st_error_errno(err, errno, "cannot open /") : fd;
}

static int check_descriptor(int fd, bool beside_program, struct stat *ret, struct st_error **err) {
        if (fstat(fd, ret) < 0)
                return st_error_errno(err, errno, "cannot look at a directory on the path");
        if (is_safe(ret))
                return 0;

        _cleanup_free_ char *path = descriptor_path(fd);
        if (beside_program && S_ISDIR(ret->st_mode) && is_as_safe_as_program(ret, path))
                return 0;
        return refuse(ret, path, err);
}

/* Puts the target of a link in front of what is left of the path. */
static int follow_link(int link, int *fd, char **rest, const char *after, struct st_error **err) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(link, "", target, sizeof(target));

        if (n < 0)
                return st_error_errno(err, errno, "cannot read a link on the path");
        if ((size_t)n == sizeof(target))
                return st_error_set(err, ENAMETOOLONG, "a link on the path is too long");
        if (n > 0 && target[0] == '/') {
                int root = open_root(err);
                if (root < 0)
                        return root;
                close(*fd);
                *fd = root;
        }
        char *joined = xasprintf("%.*s/%s", (int)n, target, after);
        free(*rest);
        *rest = joined;
        return 0;
}

int trust_directory(const char *path, int *ret_fd, struct st_error **err) {
        _cleanup_free_ char *rest = path_absolute(path);
        _cleanup_close_ int fd = open_root(err);
        bool beside_program = is_beside_program(rest);
        unsigned links = 0;
        struct stat st;

        int r = fd < 0 ? fd : check_descriptor(fd, beside_program, &st, err);
        if (r < 0)
                return r;

        for (size_t at = 0;;) {
                at += strspn(rest + at, "/");
                size_t n = strcspn(rest + at, "/");
                if (n == 0)
                        break;

                _cleanup_free_ char *name = xstrndup(rest + at, n);
                _cleanup_close_ int next = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
                if (next < 0)
                        return st_error_errno(err, errno, "cannot open %s of %s", name, path);
                r = check_descriptor(next, beside_program, &st, err);
                if (r < 0)
                        return r;

                if (S_ISLNK(st.st_mode)) {
                        if (++links > LINKS_MAX)
                                return st_error_set(err, ELOOP, "%s leads through too many links", path);
                        r = follow_link(next, &fd, &rest, rest + at + n, err);
                        if (r < 0)
                                return r;
                        at = 0;
                        continue;
                }
                if (!S_ISDIR(st.st_mode))
                        return st_error_set(err, ENOTDIR, "%s of %s is not a directory", name, path);
                close(fd);
                fd = TAKE_FD(next);
                at += n;
        }

        *ret_fd = TAKE_FD(fd);
        return 0;
}

int trust_file(int dir_fd, const char *name, const char *path, struct st_error **err) {
        struct stat st;

        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return st_error_errno(err, errno, "cannot look at it");
        if (!S_ISREG(st.st_mode))
                return st_error_set(err, EINVAL,
                                    S_ISLNK(st.st_mode) ? "it is a link; a plugin must be a regular file"
                                                        : "it is not a regular file");
        if (is_safe(&st) || (is_beside_program(path) && is_as_safe_as_program(&st, path)))
                return 0;
        return refuse(&st, path, err);
}
