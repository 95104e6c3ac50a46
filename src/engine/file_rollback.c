/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/file_rollback.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/file_companions.h"
#include "engine/file_writers.h"

struct item {
        const struct file_change *change;
        int dir_fd;       /* the rollback's */
        const char *name; /* in the directory */
        char *companion;  /* name of the tail, of the new file before it is exchanged, of the kept one after it */
        struct nameless_file content; /* what is to be written into the file (REMEDY_REWRITE) */
        bool applied;
        struct plain_file after; /* as we left it */
};

struct directory {
        char *path;
        int fd;
};

struct file_rollback {
        struct image *image;
        struct item *items;
        size_t n;
        struct directory *directories;
        size_t n_directories, room_directories;
        char tail[48], kept[48]; /* what the names of companions end with */
};

/* ---- helpers */

static int failed(const struct item *item, int number, const char *what, struct st_error **err) {
        _cleanup_free_ char *directory = path_directory(item->change->path);

        if (number == -ESTALE)
                return st_error_set(err, EBUSY, "%s is being changed by somebody else", item->change->path);
        if (number == -ENOSPC || number == -EDQUOT) {
                st_error_set(err, -number, "no space left in %s to %s %s", directory, what, item->change->path);
                st_error_hint(err, "make room there: nothing is thrown away, so a rollback needs some");
                return number;
        }
        return st_error_errno(err, number, "cannot %s %s", what, item->change->path);
}

/** Opens the file, which must still be what was looked at. @return descriptor, -ESTALE or -errno */
static int open_expected(const struct item *item, int flags, const struct plain_file *expected) {
        _cleanup_close_ int fd = plain_file_open_at(item->dir_fd, item->name, flags);
        struct plain_file now;
        int r;

        if (fd < 0)
                return fd == -ENOENT || fd == -ELOOP || fd == -EINVAL ? -ESTALE : fd;
        r = plain_file_look(fd, "", 0, &now);
        if (r < 0)
                return r;
        return plain_file_is_unchanged(&now, expected) ? TAKE_FD(fd) : -ESTALE;
}

/**
 * Opens the file to change it. When nobody else has it open a lease keeps others out until it is closed: they wait in
 * open(2). Readers may have it open, writers not.
 */
static int open_to_change(const struct item *item, const struct plain_file *expected) {
        _cleanup_free_ char *who = NULL;
        struct plain_file now;
        int r = file_writers_find(item->change->path, &who);

        if (r != 0)
                return r < 0 ? r : -ESTALE;
        _cleanup_close_ int fd = open_expected(item, O_RDWR, expected);
        if (fd < 0)
                return fd;
        if (fcntl(fd, F_SETSIG, SIGURG) == 0)
                (void)fcntl(fd, F_SETLEASE, F_WRLCK);
        /* Now that others are kept out. */
        r = plain_file_look(fd, "", 0, &now);
        if (r < 0)
                return r;
        return plain_file_is_unchanged(&now, expected) ? TAKE_FD(fd) : -ESTALE;
}

/** Permissions and time of the last change, as they were. The latter only where it is known. */
static int set_attributes(int fd, mode_t mode, struct timespec mtime) {
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, mtime };
        struct stat st;

        if (fstat(fd, &st) < 0 || ((st.st_mode ^ mode) & 07777 && fchmod(fd, mode & 07777) < 0))
                return -errno;
        if ((mtime.tv_sec != 0 || mtime.tv_nsec != 0) && futimens(fd, times) < 0)
                return -errno;
        return 0;
}

static int sync_directory(int dir_fd) {
        return fsync(dir_fd) < 0 && errno != EINVAL ? -errno : 0;
}

/** Fills a new file with the content that the checkpoint holds. */
static int fill_content(struct file_rollback *rollback, const struct item *item, int fd, struct st_error **err) {
        const struct file_record *record = item->change->record;
        struct plain_file now;
        int r = 0;

        if (record->content)
                r = image_copy_to_fd(rollback->image, record->content, fd, err);
        if (r == -ENOSPC || r == -EDQUOT) {
                if (err)
                        *err = st_error_free(*err);
                return failed(item, r, "write the saved content of", err);
        }
        if (r < 0)
                return r;
        r = plain_file_look(fd, "", 0, &now);
        if (r < 0 || now.size != record->was.size)
                return st_error_set(err, EBADMSG, "%s of the checkpoint is not what its record says", record->content);
        return 0;
}

/* ---- prepare */

/** Copies the tail of the file, or all of it, beside it. @param from offset, bytes */
static int save_copy(struct item *item, uint64_t from, const char *suffix, struct st_error **err) {
        const struct plain_file *now = &item->change->now;
        _cleanup_(plain_file_discard) struct nameless_file copy = NAMELESS_FILE_NULL;
        _cleanup_close_ int fd = open_expected(item, O_RDONLY | O_NOATIME, now);
        struct plain_file then;
        int r;

        if (fd < 0)
                return failed(item, fd, "read", err);
        r = plain_file_new(item->dir_fd, &copy);
        if (r >= 0)
                r = plain_file_copy(fd, from, copy.fd, 0, now->size - from);
        if (r >= 0)
                r = plain_file_copy_access(fd, copy.fd);
        if (r >= 0 && from == 0)
                r = set_attributes(copy.fd, now->mode, now->mtime);
        if (r >= 0)
                r = plain_file_look(fd, "", 0, &then);
        if (r >= 0 && !plain_file_is_unchanged(&then, now))
                r = -ESTALE;
        if (r >= 0)
                r = plain_file_publish(&copy, item->name, suffix, &item->companion);
        return r < 0 ? failed(item, r, from == 0 ? "save a copy of" : "save the tail of", err) : 0;
}

/** A new file with the saved content, and the owner and permissions that it had. */
static int make_new(struct file_rollback *rollback, struct item *item, struct nameless_file *file,
                    struct st_error **err) {
        const struct plain_file *was = &item->change->record->was;
        int r;

        r = plain_file_new(item->dir_fd, file);
        if (r < 0)
                return failed(item, r, "make a new file for", err);
        r = fill_content(rollback, item, file->fd, err);
        if (r < 0)
                return r;
        if (item->change->exists) {
                _cleanup_close_ int fd = open_expected(item, O_RDONLY | O_NOATIME, &item->change->now);

                r = fd < 0 ? fd : plain_file_copy_access(fd, file->fd);
        }
        if (r >= 0 && fchown(file->fd, was->uid, was->gid) < 0 && errno != EPERM)
                r = -errno;
        if (r >= 0)
                r = set_attributes(file->fd, was->mode, was->mtime);
        return r < 0 ? failed(item, r, "make a new file for", err) : 0;
}

static int prepare_new(struct file_rollback *rollback, struct item *item, struct st_error **err) {
        _cleanup_(plain_file_discard) struct nameless_file file = NAMELESS_FILE_NULL;
        int r;

        r = make_new(rollback, item, &file, err);
        if (r < 0)
                return r;
        /* Of the kept file, whose place it will take. */
        r = plain_file_publish(&file, item->name, rollback->kept, &item->companion);
        return r < 0 ? failed(item, r, "make a new file for", err) : 0;
}

static int prepare(struct file_rollback *rollback, struct item *item, struct st_error **err) {
        int r;

        switch (item->change->remedy) {
        case REMEDY_CUT:
                return save_copy(item, item->change->record->was.size, rollback->tail, err);
        case REMEDY_REPLACE:
        case REMEDY_CREATE:
                return prepare_new(rollback, item, err);
        case REMEDY_REWRITE:
                r = make_new(rollback, item, &item->content, err);
                return r < 0 ? r : save_copy(item, 0, rollback->kept, err);
        default:
                return 0;
        }
}

/** @return the descriptor of a file's directory, the rollback's; -errno */
static int find_directory(struct file_rollback *rollback, const char *path, const char **ret_name) {
        _cleanup_free_ char *directory = path_directory(path);
        int fd;

        *ret_name = path_name(path);
        for (size_t i = 0; i < rollback->n_directories; i++)
                if (streq(rollback->directories[i].path, directory))
                        return rollback->directories[i].fd;
        fd = plain_file_open_directory(path, ret_name);
        if (fd < 0)
                return fd;
        GROW(rollback->directories, rollback->n_directories, rollback->room_directories);
        rollback->directories[rollback->n_directories++] = (struct directory){ .path = TAKE_PTR(directory), .fd = fd };
        return fd;
}

int file_rollback_prepare(struct image *image, const struct file_changes *changes, bool by_policy,
                          struct file_rollback **ret, struct st_error **err) {
        _cleanup_(file_rollback_freep) struct file_rollback *rollback = NEW(struct file_rollback);
        time_t now = time(NULL);

        rollback->image = image;
        rollback->items = xcalloc(changes->n + 1, sizeof(*rollback->items));
        file_companion_suffix("tail", by_policy, now, rollback->tail, sizeof(rollback->tail));
        file_companion_suffix("kept", by_policy, now, rollback->kept, sizeof(rollback->kept));

        for (size_t i = 0; i < changes->n; i++) {
                const struct file_change *change = &changes->items[i];
                struct item *item = &rollback->items[rollback->n];
                int r;

                if (change->remedy == REMEDY_NONE || change->remedy == REMEDY_IMPOSSIBLE)
                        continue;
                *item = (struct item){ .change = change, .content = NAMELESS_FILE_NULL };
                rollback->n++;
                item->dir_fd = find_directory(rollback, change->path, &item->name);
                r = item->dir_fd < 0 ? failed(item, item->dir_fd, "open the directory of", err)
                                     : prepare(rollback, item, err);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(rollback);
        return 0;
}

/* ---- apply */

static int apply_cut(struct item *item) {
        const struct plain_file *was = &item->change->record->was;
        _cleanup_close_ int fd = open_to_change(item, &item->change->now);
        int r;

        if (fd < 0)
                return fd;
        if (ftruncate(fd, (off_t)was->size) < 0)
                return -errno;
        item->applied = true;
        r = set_attributes(fd, was->mode, was->mtime);
        return r < 0 ? r : plain_file_look(fd, "", 0, &item->after);
}

static int apply_rewrite(struct item *item) {
        const struct plain_file *was = &item->change->record->was;
        _cleanup_close_ int fd = open_to_change(item, &item->change->now);
        int r;

        if (fd < 0)
                return fd;
        item->applied = true;
        r = plain_file_copy(item->content.fd, 0, fd, 0, was->size);
        if (r >= 0 && ftruncate(fd, (off_t)was->size) < 0)
                r = -errno;
        if (r >= 0)
                r = set_attributes(fd, was->mode, was->mtime);
        if (r >= 0 && fsync(fd) < 0)
                r = -errno;
        return r < 0 ? r : plain_file_look(fd, "", 0, &item->after);
}

/** For file systems that cannot exchange: a link keeps the present file. */
static int replace_by_link(struct item *item, const char *suffix) {
        _cleanup_free_ char *kept = NULL;
        int r = plain_file_link(item->dir_fd, item->name, &item->change->now, suffix, &kept);

        if (r < 0)
                return r;
        if (renameat(item->dir_fd, item->companion, item->dir_fd, item->name) < 0) {
                r = -errno;
                (void)unlinkat(item->dir_fd, kept, 0);
                return r;
        }
        free(item->companion);
        item->companion = TAKE_PTR(kept);
        return 0;
}

/** Exchanges the file and its companion, which must turn out to be the expected file. */
static int exchange(const struct item *item, const struct plain_file *expected) {
        struct plain_file now;
        int r;

        if (renameat2(item->dir_fd, item->companion, item->dir_fd, item->name, RENAME_EXCHANGE) < 0)
                return -errno;
        r = plain_file_look(item->dir_fd, item->companion, AT_SYMLINK_NOFOLLOW, &now);
        if (r >= 0 && !plain_file_is_unchanged(&now, expected))
                r = -ESTALE;
        if (r < 0)
                (void)renameat2(item->dir_fd, item->companion, item->dir_fd, item->name, RENAME_EXCHANGE);
        return r;
}

static int apply_replace(struct file_rollback *rollback, struct item *item) {
        _cleanup_free_ char *who = NULL;
        int r = file_writers_find(item->change->path, &who);

        if (r != 0)
                return r < 0 ? r : -ESTALE;
        r = exchange(item, &item->change->now);
        if (r == -EINVAL || r == -ENOSYS || r == -EOPNOTSUPP)
                r = replace_by_link(item, rollback->kept);
        if (r < 0)
                return r;
        item->applied = true;
        r = sync_directory(item->dir_fd);
        return r < 0 ? r : plain_file_look(item->dir_fd, item->name, AT_SYMLINK_NOFOLLOW, &item->after);
}

static int apply_create(struct item *item) {
        int r;

        if (renameat2(item->dir_fd, item->companion, item->dir_fd, item->name, RENAME_NOREPLACE) < 0) {
                /* Not every file system knows the flag; link(2) replaces nothing either. */
                if (errno != EINVAL || linkat(item->dir_fd, item->companion, item->dir_fd, item->name, 0) < 0)
                        return errno == EEXIST ? -ESTALE : -errno;
                (void)unlinkat(item->dir_fd, item->companion, 0);
        }
        free(TAKE_PTR(item->companion));
        item->applied = true;
        r = sync_directory(item->dir_fd);
        return r < 0 ? r : plain_file_look(item->dir_fd, item->name, AT_SYMLINK_NOFOLLOW, &item->after);
}

static int apply_mode(struct item *item) {
        _cleanup_close_ int fd = open_expected(item, O_RDONLY | O_NOATIME, &item->change->now);

        if (fd < 0)
                return fd;
        if (fchmod(fd, item->change->record->was.mode & 07777) < 0)
                return -errno;
        item->applied = true;
        return plain_file_look(fd, "", 0, &item->after);
}

static int apply(struct file_rollback *rollback, struct item *item) {
        switch (item->change->remedy) {
        case REMEDY_CUT:
                return apply_cut(item);
        case REMEDY_REPLACE:
                return apply_replace(rollback, item);
        case REMEDY_REWRITE:
                return apply_rewrite(item);
        case REMEDY_CREATE:
                return apply_create(item);
        default:
                return apply_mode(item);
        }
}

int file_rollback_apply(struct file_rollback *rollback, struct st_error **err) {
        for (size_t i = 0; i < rollback->n; i++) {
                struct item *item = &rollback->items[i];
                int r = apply(rollback, item);

                if (r < 0) {
                        struct st_error *error = NULL;

                        r = failed(item, r, "put back", err);
                        if (file_rollback_undo(rollback, &error) < 0)
                                st_error_wrap(err, "%s", st_error_message(error));
                        st_error_free(error);
                        return r;
                }
        }
        return 0;
}

/* ---- undo */

/**
 * Opens the file to put it back: as we left it. One that was not finished (`after` is not set) is half changed: then it
 * must at least be the same inode.
 */
static int open_to_undo(const struct item *item) {
        struct plain_file now;

        if (item->after.inode != 0)
                return open_to_change(item, &item->after);
        int r = plain_file_look(item->dir_fd, item->name, AT_SYMLINK_NOFOLLOW, &now);
        if (r < 0 || !plain_file_is_same(&now, &item->change->now))
                return r < 0 ? r : -ESTALE;
        return open_to_change(item, &now);
}

/** Copies the companion back into the file. @param at offset, bytes */
static int undo_copy(struct item *item, uint64_t at) {
        const struct plain_file *now = &item->change->now;
        _cleanup_close_ int fd = open_to_undo(item), from = -EBADF;
        int r;

        if (fd < 0)
                return fd;
        from = plain_file_open_at(item->dir_fd, item->companion, O_RDONLY);
        r = from < 0 ? from : plain_file_copy(from, 0, fd, at, now->size - at);
        if (r >= 0 && ftruncate(fd, (off_t)now->size) < 0)
                r = -errno;
        if (r >= 0)
                r = set_attributes(fd, now->mode, now->mtime);
        if (r >= 0 && fsync(fd) < 0)
                r = -errno;
        if (r >= 0 && unlinkat(item->dir_fd, item->companion, 0) < 0)
                r = -errno;
        return r;
}

static int undo_replace(struct item *item) {
        int r = exchange(item, &item->after);

        if (r == -EINVAL || r == -ENOSYS || r == -EOPNOTSUPP)
                return renameat(item->dir_fd, item->companion, item->dir_fd, item->name) < 0 ? -errno : 0;
        /* What we made is the companion again; its content is in the checkpoint. */
        if (r >= 0 && unlinkat(item->dir_fd, item->companion, 0) < 0)
                r = -errno;
        return r < 0 ? r : sync_directory(item->dir_fd);
}

static int undo_create(struct item *item) {
        struct plain_file now;
        int r = plain_file_look(item->dir_fd, item->name, AT_SYMLINK_NOFOLLOW, &now);

        if (r >= 0 && !plain_file_is_unchanged(&now, &item->after))
                r = -ESTALE;
        if (r < 0)
                return r;
        return unlinkat(item->dir_fd, item->name, 0) < 0 ? -errno : 0;
}

static int undo_mode(struct item *item) {
        _cleanup_close_ int fd = open_expected(item, O_RDONLY | O_NOATIME, &item->after);

        if (fd < 0)
                return fd;
        return fchmod(fd, item->change->now.mode & 07777) < 0 ? -errno : 0;
}

static int undo(struct item *item) {
        switch (item->change->remedy) {
        case REMEDY_CUT:
                return undo_copy(item, item->change->record->was.size);
        case REMEDY_REWRITE:
                return undo_copy(item, 0);
        case REMEDY_REPLACE:
                return undo_replace(item);
        case REMEDY_CREATE:
                return undo_create(item);
        default:
                return undo_mode(item);
        }
}

/** What was prepared, and has come to nothing. */
static void forget(struct item *item) {
        if (item->companion && !item->applied)
                (void)unlinkat(item->dir_fd, item->companion, 0);
        free(TAKE_PTR(item->companion));
        plain_file_discard(&item->content);
}

int file_rollback_undo(struct file_rollback *rollback, struct st_error **err) {
        int result = 0;

        for (size_t i = rollback->n; i-- > 0;) {
                struct item *item = &rollback->items[i];
                int r = item->applied ? undo(item) : 0;

                if (r >= 0) {
                        if (item->applied)
                                free(TAKE_PTR(item->companion));
                        item->applied = false;
                } else if (result == 0) {
                        failed(item, r, "undo the rollback of", err);
                        if (item->companion)
                                st_error_hint(err, "what it had before is in %s beside it", item->companion);
                        result = r;
                }
        }
        return result;
}

void file_rollback_describe(const struct file_rollback *rollback, void (*say)(const char *line, void *userdata),
                            void *userdata) {
        for (size_t i = 0; i < rollback->n; i++) {
                const struct item *item = &rollback->items[i];
                const struct file_change *change = item->change;
                _cleanup_free_ char *directory = path_directory(change->path), *line = NULL;
                _cleanup_free_ char *companion = item->companion ? path_join(directory, item->companion) : NULL;

                if (change->remedy == REMEDY_CUT)
                        line = xasprintf("cut %s from %" PRIu64 " to %" PRIu64 " bytes: the rest is in %s",
                                         change->path, change->now.size, change->record->was.size, companion);
                else if (companion)
                        line = xasprintf("put back the content of %s: what was there is in %s", change->path,
                                         companion);
                else
                        line = xasprintf("put back %s%s", change->remedy == REMEDY_MODE ? "the mode of " : "",
                                         change->path);
                say(line, userdata);
        }
}

size_t file_rollback_remove_older(const struct file_rollback *rollback) {
        size_t n = 0;

        for (size_t i = 0; i < rollback->n; i++) {
                const struct item *item = &rollback->items[i];

                if (item->applied && item->companion)
                        n += file_companions_remove_older(item->dir_fd, item->name, item->companion);
        }
        return n;
}

struct file_rollback *file_rollback_free(struct file_rollback *rollback) {
        if (!rollback)
                return NULL;
        for (size_t i = 0; i < rollback->n; i++)
                forget(&rollback->items[i]);
        for (size_t i = 0; i < rollback->n_directories; i++) {
                close(rollback->directories[i].fd);
                free(rollback->directories[i].path);
        }
        free(rollback->directories);
        free(rollback->items);
        free(rollback);
        return NULL;
}
