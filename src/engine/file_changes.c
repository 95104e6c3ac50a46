/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/file_changes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "criu/images.h"
#include "engine/file_writers.h"
#include "process/proc.h"

#define PIECE ((size_t)256 << 10)
#define PERMISSIONS 0777u

/** What a look at the content of a file found. */
enum content {
        CONTENT_SAME,    /* its first bytes, as many as it had, are what they were */
        CONTENT_LIKELY,  /* as far as a sample tells */
        CONTENT_UNKNOWN, /* nothing was kept to compare with */
        CONTENT_OTHER,
};

/* ---- reading the checkpoint */

/** Reads a file of the checkpoint; -ENOENT without err: there is none. */
static int read_image(struct image *image, const char *name, char **ret, size_t *ret_size, struct st_error **err) {
        struct st_error *error = NULL;
        int r = image_read(image, name, ret, ret_size, &error);

        if (r == -ENOENT) {
                st_error_free(error);
                return r;
        }
        return r < 0 ? st_error_move(err, error) : r;
}

static int load_maps(struct image *image, struct open_files *open, struct st_error **err) {
        size_t n = image_file_count(image);
        int r = 0;

        for (size_t i = 0; i < n && r >= 0; i++) {
                _cleanup_free_ char *name = xstrdup(image_file_name(image, i)), *data = NULL;
                uint64_t pid;
                size_t size;

                if (!criu_images_id(name, "mm", &pid))
                        continue;
                r = read_image(image, name, &data, &size, err);
                if (r >= 0)
                        r = open_files_add_maps(open, name, data, size, err);
        }
        return r;
}

/** @param maps also what is mapped: needed only when something differs */
static int load_open(struct image *image, bool maps, struct open_files *open, struct st_error **err) {
        _cleanup_free_ char *remaps = NULL, *files = NULL;
        size_t size;
        int r;

        r = read_image(image, "remap-fpath.img", &remaps, &size, err);
        if (r >= 0)
                r = open_files_add_remaps(open, remaps, size, err);
        if (r >= 0 || r == -ENOENT)
                r = read_image(image, "files.img", &files, &size, err);
        if (r >= 0)
                r = open_files_add(open, files, size, err);
        if (r >= 0 && maps)
                r = load_maps(image, open, err);
        if (r >= 0)
                open_files_finish(open);
        return r == -ENOENT ? 0 : r;
}

static int load_records(struct file_changes *changes, struct image *image, struct st_error **err) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = read_image(image, FILE_RECORD, &text, &size, err);
        if (r == -ENOENT)
                return 0;
        if (r >= 0)
                r = file_records_from_json(text, size, &changes->records, err);
        if (r < 0)
                return r;
        changes->recorded = true;
        /* Device numbers of some file systems change with each mount: after a reboot they say nothing. */
        if (!streq(changes->records.boot, proc_boot_id()))
                for (size_t i = 0; i < changes->records.n; i++)
                        changes->records.items[i].was.dev = 0;
        return 0;
}

static int compare_path(const void *key, const void *record) {
        return strcmp(key, ((const struct file_record *)record)->path);
}

static const struct file_record *find_record(const struct file_records *records, const char *path) {
        if (records->n == 0)
                return NULL;
        return bsearch(path, records->items, records->n, sizeof(*records->items), compare_path);
}

/* ---- comparing */

/** Hashes the first bytes of a file. @return 0; -ENODATA: it is shorter; -errno; -ECANCELED with err */
static int hash_head(const struct st_operation *operation, int fd, uint64_t length, struct hash *ret,
                     struct st_error **err) {
        _cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
        _cleanup_free_ char *buffer = xmalloc(PIECE);

        for (uint64_t at = 0; at < length;) {
                uint64_t left = length - at;
                ssize_t n = pread(fd, buffer, left < PIECE ? (size_t)left : PIECE, (off_t)at);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -ENODATA;
                hasher_update(hasher, buffer, (size_t)n);
                at += (uint64_t)n;
                int r = st_operation_check_cancelled(operation, err);
                if (r < 0)
                        return r;
        }
        *ret = hasher_finish(hasher);
        return 0;
}

/** @return whether the bytes there are those of a sample */
static bool is_sample(int fd, uint64_t offset, size_t length, struct hash sample) {
        char buffer[FILE_SAMPLE];

        return pread(fd, buffer, length, (off_t)offset) == (ssize_t)length &&
               hash_equal(hash_of(buffer, length), sample);
}

/** Compares what a file begins with to what it was. @return enum content, or -ECANCELED with err */
static int compare_content(const struct st_operation *operation, const struct file_record *record, int fd,
                           struct st_error **err) {
        uint64_t size = record->was.size;
        size_t length = size < FILE_SAMPLE ? (size_t)size : FILE_SAMPLE;
        struct hash hash;
        int r;

        if (size == 0)
                return CONTENT_SAME;
        if (record->has_hash) {
                r = hash_head(operation, fd, size, &hash, err);
                if (r == -ECANCELED || r == -ETIMEDOUT)
                        return r;
                return r >= 0 && hash_equal(hash, record->hash) ? CONTENT_SAME : CONTENT_OTHER;
        }
        if (!record->has_tail)
                return CONTENT_UNKNOWN;
        return is_sample(fd, size - length, length, record->tail) ? CONTENT_LIKELY : CONTENT_OTHER;
}

static bool is_same_inode(const struct file_record *record, const struct plain_file *now) {
        struct plain_file was = record->was;

        if (was.dev == 0)
                was.dev = now->dev;
        return plain_file_is_same(&was, now);
}

static void impossible(struct file_change *change, const char *format, ...) ST_PRINTF(2, 3);
static void impossible(struct file_change *change, const char *format, ...) {
        va_list ap;

        change->remedy = REMEDY_IMPOSSIBLE;
        free(change->obstacle);
        va_start(ap, format);
        change->obstacle = xvasprintf(format, ap);
        va_end(ap);
}

static void describe(struct file_change *change, const char *format, ...) ST_PRINTF(2, 3);
static void describe(struct file_change *change, const char *format, ...) {
        va_list ap;

        free(change->difference);
        va_start(ap, format);
        change->difference = xvasprintf(format, ap);
        va_end(ap);
}

static void describe_size(struct file_change *change, uint64_t was) {
        describe(change, "%s from %" PRIu64 " to %" PRIu64 " bytes", change->now.size > was ? "grew" : "shrank", was,
                 change->now.size);
}

/** It needs its saved content. */
static void replace(struct file_change *change, bool same_inode) {
        if (!file_record_has_content(change->record))
                impossible(change, "its content is not in the checkpoint");
        else
                change->remedy = same_inode && change->now.links > 1 ? REMEDY_REWRITE : REMEDY_REPLACE;
}

/** The same length. Nothing set: it is as it was. */
static void judge_equal(struct file_change *change, bool same_inode, enum content content) {
        const struct file_record *record = change->record;
        bool untouched = same_inode && time_equal(change->now.mtime, record->was.mtime);

        if (content == CONTENT_SAME || (same_inode && content == CONTENT_LIKELY && record->at_end))
                return;
        /* What a mapping writes need not show in the time; but there is nothing to tell it by. */
        if (untouched && content == CONTENT_UNKNOWN)
                return;
        describe(change, same_inode ? "was changed" : "was replaced by another file");
        replace(change, same_inode);
}

static void judge_grown(struct file_change *change, bool same_inode, enum content content) {
        const struct file_record *record = change->record;

        describe_size(change, record->was.size);
        if (content == CONTENT_OTHER || !same_inode) {
                describe(change, "%s: %" PRIu64 " bytes instead of %" PRIu64,
                         same_inode ? "was rewritten" : "was replaced by another file", change->now.size,
                         record->was.size);
                replace(change, same_inode);
        } else if (content == CONTENT_SAME || record->at_end) {
                change->only_grew = true;
                change->remedy = REMEDY_CUT;
        } else
                impossible(change, "more than its end may have changed, and its content is not in the checkpoint");
}

/** Compares a file that is there with its record. @return 0 or -ECANCELED with err */
static int judge(const struct file_changes_look *look, struct file_change *change, struct st_error **err) {
        const struct file_record *record = change->record;
        bool same_inode = is_same_inode(record, &change->now);
        _cleanup_close_ int fd = -EBADF;
        int content;

        if (same_inode && change->now.size == record->was.size && !record->mapped &&
            time_equal(change->now.mtime, record->was.mtime))
                return 0;
        if (change->now.size < record->was.size) {
                describe_size(change, record->was.size);
                replace(change, same_inode);
                return 0;
        }
        fd = plain_file_open(change->path, O_RDONLY | O_NOATIME);
        if (fd < 0) {
                describe(change, "may have changed");
                impossible(change, "%s", fd == -ELOOP ? "its path leads through a symbolic link now" : strerror(-fd));
                return 0;
        }
        content = compare_content(look->operation, record, fd, err);
        if (content < 0)
                return content;
        if (change->now.size > record->was.size)
                judge_grown(change, same_inode, (enum content)content);
        else
                judge_equal(change, same_inode, (enum content)content);
        return 0;
}

static void judge_missing(struct file_change *change) {
        const char *name;

        describe(change, "is missing");
        if (!change->record)
                return;
        if (!file_record_has_content(change->record)) {
                impossible(change, "its content is not in the checkpoint");
                return;
        }
        _cleanup_close_ int directory = plain_file_open_directory(change->path, &name);
        if (directory < 0)
                impossible(change, "its directory: %s", strerror(-directory));
        else
                change->remedy = REMEDY_CREATE;
}

/** Others may be writing to a file that is to be put back: that would go wrong for both. */
static void check_writers(struct file_change *change) {
        _cleanup_free_ char *who = NULL;
        int r;

        if (change->remedy != REMEDY_CUT && change->remedy != REMEDY_REPLACE && change->remedy != REMEDY_REWRITE)
                return;
        r = file_writers_find(change->path, &who);
        change->shared = r > 0;
        if (r > 0)
                impossible(change, "%s has it open for writing", who);
        else if (r < 0)
                impossible(change, "%s", r == -ELOOP ? "its path leads through a symbolic link now" : strerror(-r));
}

/** Looks at one file. `change` is for it; its difference stays NULL when there is none. */
static int look_at(const struct file_changes_look *look, bool recorded, struct file_change *change,
                   struct st_error **err) {
        const struct open_file *open = change->open;
        uint32_t ignored = look->ignore_permissions ? PERMISSIONS : 0;
        int r = plain_file_look(AT_FDCWD, change->path, 0, &change->now);

        if (r == -ENOENT || r == -ENOTDIR)
                judge_missing(change);
        else if (r < 0)
                describe(change, "cannot be looked at: %s", strerror(-r));
        else if (!S_ISREG(change->now.mode))
                describe(change, "is no regular file any more");
        change->exists = r >= 0 && S_ISREG(change->now.mode);
        change->refused = !change->exists;
        if (change->exists) {
                bool mode_differs = ((change->now.mode ^ open->mode) & ~ignored) != 0;
                bool size_differs = open->has_size && change->now.size != open->size;

                change->refused = mode_differs || size_differs;
                if (change->record) {
                        r = judge(look, change, err);
                        if (r < 0)
                                return r;
                }
                if (size_differs && !change->difference)
                        describe_size(change, open->size);
                if (mode_differs && !change->difference) {
                        describe(change, "has the mode %04o instead of %04o", change->now.mode & 07777,
                                 open->mode & 07777);
                        if (change->record && is_same_inode(change->record, &change->now))
                                change->remedy = REMEDY_MODE;
                }
        }
        if (change->difference && change->remedy == REMEDY_NONE)
                impossible(change, "%s",
                           !change->exists && change->record ? "something else is in its place"
                           : open->writable && !recorded     ? "the checkpoint has no record of its files"
                           : open->writable                  ? "it is not in the checkpoint's record of files"
                                                             : "the process only reads it, so it was not recorded");
        check_writers(change);
        return 0;
}

static void change_clear(struct file_change *change) {
        free(change->difference);
        free(change->obstacle);
}

static int look_at_all(const struct file_changes_look *look, struct file_changes *changes, struct st_error **err) {
        for (size_t i = 0; i < changes->open.n; i++) {
                const struct open_file *open = &changes->open.items[i];
                struct file_change change = { .path = open->path, .open = open };
                int r;

                if (look->skip && look->skip(open->path, look->userdata))
                        continue;
                change.record = find_record(&changes->records, open->path);
                r = look_at(look, changes->recorded, &change, err);
                if (r < 0 || !change.difference) {
                        change_clear(&change);
                        if (r < 0)
                                return r;
                        continue;
                }
                GROW(changes->items, changes->n, changes->room);
                changes->items[changes->n++] = change;
        }
        return 0;
}

static void forget_items(struct file_changes *changes) {
        for (size_t i = 0; i < changes->n; i++)
                change_clear(&changes->items[i]);
        changes->n = 0;
}

/** What is mapped matters only for files that differ. */
static int add_maps(const struct file_changes_look *look, struct file_changes *changes, struct st_error **err) {
        struct open_files with_maps = { 0 };
        int r = load_open(look->image, true, &with_maps, err);

        for (size_t i = 0; i < changes->n && r >= 0; i++) {
                const struct open_file *open = open_files_find(&with_maps, changes->items[i].path);

                if (!open)
                        r = st_error_set(err, EBADMSG, "files.img of the checkpoint changed while it was read");
                else {
                        changes->items[i].open = open;
                        changes->items[i].path = open->path;
                }
        }
        if (r < 0) {
                open_files_clear(&with_maps);
                return r;
        }
        open_files_clear(&changes->open);
        changes->open = with_maps;
        return 0;
}

int file_changes_find(const struct file_changes_look *look, struct file_changes *ret, struct st_error **err) {
        int r;

        r = load_open(look->image, false, &ret->open, err);
        if (r >= 0)
                r = load_records(ret, look->image, err);
        if (r >= 0)
                r = look_at_all(look, ret, err);
        if (r >= 0 && ret->n > 0)
                r = add_maps(look, ret, err);
        if (r < 0)
                file_changes_clear(ret);
        return r;
}

bool file_change_is_keepable(const struct file_change *change) {
        return change->exists && !change->open->executed;
}

void file_changes_clear(struct file_changes *changes) {
        forget_items(changes);
        free(changes->items);
        open_files_clear(&changes->open);
        file_records_clear(&changes->records);
        *changes = (struct file_changes){ 0 };
}
