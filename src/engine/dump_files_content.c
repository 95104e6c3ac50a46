/* SPDX-License-Identifier: Apache-2.0 */

/* The content of open files, for dump_files.c. */

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "engine/dump_files_private.h"

/* What is smaller is copied faster than cloned, bytes. */
#define CLONE_MIN (128u << 10)
/* Each holds a descriptor until the target runs again. */
#define CLONES_MAX 200

#define PIECE ((size_t)1 << 20)

/** Does reading from there wait for nobody but this machine? */
static bool is_local(int fd) {
        /* Those that an older linux/magic.h does not name: kernel sources, fs/smb/common/. */
        static const unsigned remote[] = {
                NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC, 0xfe534d42 /* SMB 2 */, 0xff534d42 /* CIFS */,
                FUSE_SUPER_MAGIC, AFS_SUPER_MAGIC, CEPH_SUPER_MAGIC,       V9FS_MAGIC,
        };
        struct statfs fs;

        if (fstatfs(fd, &fs) < 0)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(remote); i++)
                if ((unsigned)fs.f_type == remote[i])
                        return false;
        return true;
}

/**
 * Hashes the end of a file, so that a restore can tell whether a log was emptied and filled anew. Only if it is in the
 * page cache, as what was written last is: nothing here waits for a disk. File systems that cannot say so (tmpfs,
 * overlayfs) are trusted.
 */
static void take_sample(struct file_record *record, int fd) {
        size_t length = record->was.size < FILE_SAMPLE ? (size_t)record->was.size : FILE_SAMPLE;
        off_t offset = (off_t)(record->was.size - length);
        uint8_t buffer[FILE_SAMPLE];
        struct iovec iov = { buffer, length };
        ssize_t n = preadv2(fd, &iov, 1, offset, RWF_NOWAIT);

        if (n < 0 && errno == EOPNOTSUPP && is_local(fd))
                n = pread(fd, buffer, length, offset);
        if (n != (ssize_t)length)
                return;
        record->tail = hash_of(buffer, length);
        record->has_tail = true;
}

static void leave_out(struct dump_files *files, const struct file_record *record) {
        _cleanup_free_ char *size = text_from_size(record->was.size);

        strv_addf(&files->left_out, "%s (%s)", record->path, size);
}

static bool is_still(const struct file_record *record, int fd) {
        struct plain_file now;

        return plain_file_look(fd, "", 0, &now) >= 0 && plain_file_is_unchanged(&now, &record->was);
}

/** A clone beside the file: an unnamed file. @return whether there is one */
static bool clone_file(struct dump_files *files, size_t index, int fd) {
        const struct file_record *record = &files->records.items[index];
        struct dump_files_device *device = dump_files_device(files, record->was.dev, record->path);
        _cleanup_free_ char *directory = path_directory(record->path);
        _cleanup_close_ int to = -EBADF;

        if (device->no_clones || files->n_clones == CLONES_MAX)
                return false;
        to = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (to < 0 || ioctl(to, FICLONE, fd) < 0) {
                device->no_clones = errno == EOPNOTSUPP || errno == EXDEV || errno == ENOTTY || errno == ENOSYS;
                return false;
        }
        if (!is_still(record, fd))
                return false;
        GROW(files->clones, files->n_clones, files->room_clones);
        files->clones[files->n_clones++] = (struct dump_files_clone){ .fd = TAKE_FD(to), .record = index };
        return true;
}

/** Reads `size` bytes of a descriptor into a file of the store. @return 0; -ENODATA: it ends before; -errno with err */
static int read_into(struct store *store, struct store_file *file, int fd, uint64_t size, struct st_error **err) {
        _cleanup_free_ uint8_t *bounce = NULL;

        for (uint64_t at = 0; at < size;) {
                uint64_t left = size - at;
                size_t room = 0;
                uint8_t *to = store_reserve(store, file, left < SIZE_MAX ? (size_t)left : SIZE_MAX, &room);
                bool spill = !to;

                if (spill) {
                        bounce = bounce ?: xmalloc(PIECE);
                        to = bounce;
                        room = PIECE;
                }
                ssize_t n = pread(fd, to, left < room ? (size_t)left : room, (off_t)at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -ENODATA;
                if (!spill)
                        store_commit(store, file, (size_t)n);
                else {
                        int r = store_spill(store, file, to, (size_t)n, err);
                        if (r < 0)
                                return r;
                }
                at += (uint64_t)n;
        }
        return 0;
}

/** A file of the store for a record's content. */
static struct store_file *add_content(struct store *store, size_t index, char **ret_name, struct st_error **err) {
        *ret_name = xasprintf(FILE_RECORD_CONTENT "%zu", index);
        return store_add(store, *ret_name, err);
}

/** Copies the content, which must not change meanwhile: others than the target may write to the file. */
static int copy_file(struct dump_files *files, struct store *store, size_t index, int fd, struct st_error **err) {
        struct file_record *record = &files->records.items[index];
        _cleanup_free_ char *name = NULL;
        struct store_file *file = add_content(store, index, &name, err);
        struct st_error *error = NULL;
        int r;

        if (!file)
                return st_error_number(err ? *err : NULL) ?: -EIO;
        r = read_into(store, file, fd, record->was.size, &error);
        if (error)
                return st_error_move(err, error);
        if (r < 0 || !is_still(record, fd))
                leave_out(files, record);
        else
                record->content = TAKE_PTR(name);
        files->budget -= record->was.size;
        return 0;
}

/** One file: clone, copy, or at least a sample. */
static int take(struct dump_files *files, struct store *store, size_t index, struct st_error **err) {
        struct file_record *record = &files->records.items[index];
        bool wanted =
                files->mode == DUMP_FILES_COPY || (files->mode == DUMP_FILES_AUTO && record->was.size <= files->limit);
        _cleanup_close_ int fd = -EBADF;

        if (record->was.size == 0 || (!wanted && !record->at_end))
                return 0;
        if (!files->no_opens)
                fd = plain_file_open(record->path, O_RDONLY | O_NOATIME);
        if (fd < 0 || (wanted && !is_still(record, fd))) {
                if (wanted)
                        leave_out(files, record);
                return 0;
        }
        if (files->mode == DUMP_FILES_COPY && record->was.size >= CLONE_MIN && clone_file(files, index, fd))
                return 0;
        if (wanted && record->was.size <= files->budget)
                return copy_file(files, store, index, fd, err);
        if (wanted)
                leave_out(files, record);
        if (record->at_end)
                take_sample(record, fd);
        return 0;
}

struct by_size {
        uint64_t size;
        size_t index;
};

static int compare_sizes(const void *a, const void *b) {
        uint64_t x = ((const struct by_size *)a)->size, y = ((const struct by_size *)b)->size;
        return x < y ? -1 : x > y;
}

int dump_files_take_content(struct dump_files *files, struct store *store, struct st_error **err) {
        size_t n = files->records.n;
        _cleanup_free_ struct by_size *order = xcalloc(n + 1, sizeof(*order));
        int r = 0;

        /* The small ones first: so the budget is for as many as possible. */
        for (size_t i = 0; i < n; i++)
                order[i] = (struct by_size){ .size = files->records.items[i].was.size, .index = i };
        qsort(order, n, sizeof(*order), compare_sizes);
        for (size_t i = 0; i < n && r >= 0; i++)
                r = take(files, store, order[i].index, err);
        return r;
}

/** What was cloned. The file was the target's alone to change while it was cloned, or its size tells. */
static int store_clone(struct dump_files *files, struct store *store, const struct dump_files_clone *from,
                       struct st_error **err) {
        struct file_record *record = &files->records.items[from->record];
        _cleanup_free_ char *name = NULL;
        struct store_file *file;
        struct plain_file now;
        int r;

        if (plain_file_look(from->fd, "", 0, &now) < 0 || now.size != record->was.size) {
                leave_out(files, record);
                return 0;
        }
        file = add_content(store, from->record, &name, err);
        if (!file)
                return st_error_number(err ? *err : NULL) ?: -EIO;
        r = read_into(store, file, from->fd, record->was.size, err);
        if (r < 0)
                return err && *err ? r : st_error_errno(err, r, "cannot read the clone of %s", record->path);
        record->content = TAKE_PTR(name);
        return 0;
}

static int hash_content(const struct store *store, struct file_record *record, struct st_error **err) {
        _cleanup_(store_reader_clear) struct store_reader reader = {
                .store = store,
                .file = store_find(store, record->content),
        };
        _cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
        const uint8_t *piece;
        ssize_t n;

        while ((n = store_read(&reader, &piece)) > 0)
                hasher_update(hasher, piece, (size_t)n);
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot read back %s", record->content);
        record->hash = hasher_finish(hasher);
        record->has_hash = true;
        return 0;
}

int dump_files_store_content(struct dump_files *files, struct store *store, struct st_error **err) {
        int r = 0;

        for (size_t i = 0; i < files->n_clones && r >= 0; i++)
                r = store_clone(files, store, &files->clones[i], err);
        for (size_t i = 0; i < files->records.n && r >= 0; i++)
                if (files->records.items[i].content)
                        r = hash_content(store, &files->records.items[i], err);
        return r;
}
