/* SPDX-License-Identifier: Apache-2.0 */
#include "image/native_chain.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "image/partial.h"

#define ATTEMPT_MS 10

/** Waits for the lock. On a file system that has none it succeeds. */
static int lock(int fd, const char *path, int operation, int cancel_fd, struct st_error **err) {
        struct pollfd cancel = { .fd = cancel_fd, .events = POLLIN };
        for (int waited = 0; flock(fd, operation | LOCK_NB) < 0; waited += ATTEMPT_MS) {
                if (errno == EINTR)
                        continue;
                if (errno != EWOULDBLOCK)
                        return 0;
                if (waited >= NATIVE_LOCK_MS) {
                        st_error_set(err, EBUSY, "%s is in use: another operation reads or writes it", path);
                        st_error_hint(err, "try again when that has ended");
                        return -EBUSY;
                }
                if (poll(&cancel, 1, ATTEMPT_MS) > 0)
                        return st_error_set(err, ECANCELED, "cancelled");
        }
        return 0;
}

int native_lock(const char *path, bool exclusive, int cancel_fd, struct st_error **err) {
        for (;;) {
                _cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
                if (fd < 0)
                        return st_error_errno(err, errno, "cannot open the checkpoint %s", path);
                int r = lock(fd, path, exclusive ? LOCK_EX : LOCK_SH, cancel_fd, err);
                if (r < 0)
                        return r;
                if (io_is_at(fd, AT_FDCWD, path, 0))
                        return TAKE_FD(fd);
        }
}

int native_hold(const struct native *native, int cancel_fd, struct st_error **err) {
        for (uint32_t i = 0; i < native->n_sources; i++) {
                const struct native_source *source = &native->sources[i];
                int r = lock(source->fd, source->path, LOCK_SH, cancel_fd, err);
                if (r < 0)
                        return r;
                if (!io_is_at(source->fd, AT_FDCWD, source->path, 0))
                        return st_error_set(err, ESTALE, "%s was replaced or removed meanwhile", source->path);
        }
        return 0;
}

/** A child that was found. */
struct child {
        char *path;
        uint32_t n_ancestors;
};

static int compare_children(const void *a, const void *b) {
        const struct child *left = a, *right = b;
        return left->n_ancestors != right->n_ancestors ? (left->n_ancestors < right->n_ancestors ? -1 : 1)
                                                       : strcmp(left->path, right->path);
}

/** How many ancestors the image at a path has. @return 0: it is not one that depends on that ID */
static uint32_t count_ancestors(const char *path, const uint8_t id[NATIVE_ID]) {
        _cleanup_(native_freep) struct native *native = NULL;
        _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || native_open_alone(path, fd, &native, NULL) < 0)
                return 0;
        for (uint32_t i = 0; i < native->index.n_ancestors; i++)
                if (memcmp(native->index.ancestors[i].id, id, NATIVE_ID) == 0)
                        return native->index.n_ancestors;
        return 0;
}

/** Those that were found. */
struct children {
        struct child *items;
        size_t n, room;
};

/** Takes the path. */
static void look_at(struct children *children, char *path, const uint8_t id[NATIVE_ID]) {
        _cleanup_free_ char *candidate = path;
        uint32_t ancestors = count_ancestors(candidate, id);
        if (ancestors == 0)
                return;
        GROW(children->items, children->n, children->room);
        children->items[children->n++] = (struct child){ TAKE_PTR(candidate), ancestors };
}

int native_dependents(const struct native_place *place, const uint8_t id[NATIVE_ID], struct strv *ret,
                      struct st_error **err) {
        _cleanup_free_ char *directory = path_directory(place->path);
        _cleanup_closedir_ DIR *dir = opendir(directory);
        struct children children = { 0 };
        const struct dirent *entry;

        if (!dir)
                return st_error_errno(err, errno, "cannot read %s", directory);
        while ((entry = readdir(dir)))
                /* What has a hidden name is being written, and holds the lock, or it is being removed. */
                if ((entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN) && !partial_is_name(entry->d_name))
                        look_at(&children, path_join(directory, entry->d_name), id);
        for (size_t i = 0; i < place->n_others; i++) {
                _cleanup_free_ char *other = path_directory(place->others[i]);
                if (!streq(other, directory))
                        look_at(&children, xstrdup(place->others[i]), id);
        }
        if (children.n > 0)
                qsort(children.items, children.n, sizeof(*children.items), compare_children);
        for (size_t i = 0; i < children.n; i++)
                strv_take(ret, children.items[i].path);
        free(children.items);
        return 0;
}
