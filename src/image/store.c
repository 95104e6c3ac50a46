/* SPDX-License-Identifier: Apache-2.0 */
#include "image/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "image/pool.h"

#define PAGE ((size_t)4096)
/** A read holds the pipe's lock, and CRIU waits for it: not too much at once. */
#define READ_MAX ((size_t)512 << 10)
#define SPLICE_MAX ((size_t)1 << 20)
#define PIECE_MAX ((size_t)1 << 20)

struct store *store_new(uint64_t budget, const char *spill_dir) {
        struct store *store = NEW(struct store);
        store->spill_fd = -EBADF;
        store->pool = pool_new(budget);
        store->spill_dir = spill_dir;
        return store;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(((const struct store_file *)a)->name, ((const struct store_file *)b)->name);
}

struct store *store_free(struct store *store) {
        if (!store)
                return NULL;
        if (store->relief.abandon)
                store->relief.abandon(store->relief.userdata);
        for (size_t i = 0; i < store->n_files; i++) {
                struct store_file *file = store->files[i];
                tdelete(file, &store->names, compare_names);
                free(file->name);
                free(file->path);
                free(file->extents);
                free(file->references);
                free(file);
        }
        free(store->files);
        if (store->spill_fd >= 0)
                close(store->spill_fd);
        pool_free(store->pool);
        free(store);
        return NULL;
}

void store_warm(struct store *store, uint64_t bytes) {
        pool_warm(store->pool, bytes);
}

struct store_file *store_find(const struct store *store, const char *name) {
        struct store_file key = { .name = (char *)name };
        void *node = tfind(&key, &store->names, compare_names);
        return node ? *(struct store_file **)node : NULL;
}

struct store_file *store_add(struct store *store, const char *name, struct st_error **err) {
        if (!path_is_name(name)) {
                st_error_set(err, EINVAL, "'%s' is no name for a file of a checkpoint", name);
                return NULL;
        }
        if (store_find(store, name)) {
                st_error_set(err, EEXIST, "the file %s came twice", name);
                return NULL;
        }
        struct store_file *file = NEW(struct store_file);
        file->name = xstrdup(name);
        GROW(store->files, store->n_files, store->room_files);
        store->files[store->n_files++] = file;
        if (!tsearch(file, &store->names, compare_names))
                abort(); /* the index could not get a few bytes, as in xmalloc() */
        return file;
}

static struct store_extent *add_extent(struct store_file *file, struct store_extent extent) {
        GROW(file->extents, file->n_extents, file->room_extents);
        assert(file->extents);
        file->extents[file->n_extents] = extent;
        return &file->extents[file->n_extents++];
}

struct store_file *store_add_path(struct store *store, const char *name, const char *path, uint64_t size,
                                  struct st_error **err) {
        struct store_file *file = store_add(store, name, err);
        if (!file)
                return NULL;
        file->path = xstrdup(path);
        if (size > 0)
                add_extent(file, (struct store_extent){ .length = (size_t)size });
        file->size = size;
        store->total += size;
        return file;
}

/** The last extent, when it is in memory and has room. */
static struct store_extent *open_extent(struct store_file *file) {
        if (file->n_extents == 0)
                return NULL;
        struct store_extent *last = &file->extents[file->n_extents - 1];
        return last->data && last->length < last->room ? last : NULL;
}

uint8_t *store_reserve(struct store *store, struct store_file *file, size_t want, size_t *ret_room) {
        struct store_extent *extent = open_extent(file);
        if (!extent) {
                size_t room;
                uint8_t *data = pool_take(store->pool, want, &room);
                if (!data)
                        return NULL;
                extent = add_extent(file, (struct store_extent){ .data = data, .room = room });
        }
        *ret_room = extent->room - extent->length;
        return extent->data + extent->length;
}

void store_commit(struct store *store, struct store_file *file, size_t length) {
        if (length == 0)
                return;
        file->extents[file->n_extents - 1].length += length;
        file->size += length;
        store->total += length;
}

void store_refer(struct store_file *file, const struct native_file *to, uint64_t first, uint64_t pages) {
        struct store_reference *last = file->n_references > 0 ? &file->references[file->n_references - 1] : NULL;
        if (last && last->file == to && last->before == file->size && last->first + last->pages == first) {
                last->pages += pages;
                return;
        }
        GROW(file->references, file->n_references, file->room_references);
        assert(file->references);
        file->references[file->n_references++] = (struct store_reference){ to, first, pages, file->size };
}

uint64_t store_referred(const struct store_file *file) {
        uint64_t pages = 0;
        for (size_t i = 0; i < file->n_references; i++)
                pages += file->references[i].pages;
        return pages * PAGE;
}

void store_release(struct store *store, struct store_file *file, size_t index) {
        struct store_extent *extent = &file->extents[index];
        if (extent->data)
                pool_give(store->pool, TAKE_PTR(extent->data), extent->room);
        extent->room = 0;
}

void store_discard(struct store *store, struct store_file *file, size_t index) {
        struct store_extent *extent = &file->extents[index];
        if (extent->data)
                pool_discard(store->pool, TAKE_PTR(extent->data), extent->room);
        extent->room = 0;
        extent->given = true;
}

/** store_reserve(), with memory that comes back. @return 0: *ret is NULL when there is none; -errno with err */
static int reserve(struct store *store, struct store_file *file, size_t want, uint8_t **ret, size_t *ret_room,
                   struct st_error **err) {
        int r = 1;
        while (!(*ret = store_reserve(store, file, want, ret_room)) && r > 0 && store->relief.relieve)
                r = store->relief.relieve(store->relief.userdata, err);
        return r < 0 ? r : 0;
}

/** Opens the unnamed file for what does not fit into the budget. */
static int open_spill(struct store *store, struct st_error **err) {
        if (store->spill_fd >= 0)
                return 0;
        store->spill_fd = open(store->spill_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (store->spill_fd < 0) { /* not every file system can */
                _cleanup_free_ char *path = path_join(store->spill_dir, ".stasis-spill-XXXXXX");
                store->spill_fd = mkostemp(path, O_CLOEXEC);
                if (store->spill_fd < 0)
                        return st_error_errno(err, errno, "cannot make a temporary file in %s", store->spill_dir);
                unlink(path);
        }
        return 0;
}

static int spill_failed(const struct store *store, int number, struct st_error **err) {
        if (number != ENOSPC && number != EDQUOT)
                return st_error_errno(err, number, "cannot write to the temporary file in %s", store->spill_dir);
        st_error_set(err, ENOSPC, "disk full: no space left in %s for what exceeds the memory limit", store->spill_dir);
        st_error_hint(err, "make room there, or raise Checkpoint.StreamMemoryLimit");
        return -ENOSPC;
}

/** Books bytes that were written at the end of the spill file. */
static void spilled(struct store *store, struct store_file *file, size_t length) {
        struct store_extent *last = file->n_extents > 0 ? &file->extents[file->n_extents - 1] : NULL;
        if (last && !last->data && !last->given && last->offset + (off_t)last->length == (off_t)store->spilled)
                last->length += length;
        else
                add_extent(file, (struct store_extent){ .offset = (off_t)store->spilled, .length = length });
        store->spilled += length;
        file->size += length;
        store->total += length;
}

int store_spill(struct store *store, struct store_file *file, const void *data, size_t length, struct st_error **err) {
        int r = open_spill(store, err);
        if (r < 0)
                return r;
        for (size_t at = 0; at < length;) {
                ssize_t n = pwrite(store->spill_fd, (const uint8_t *)data + at, length - at, (off_t)store->spilled);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return spill_failed(store, n < 0 ? errno : ENOSPC, err);
                spilled(store, file, (size_t)n);
                at += (size_t)n;
        }
        return 0;
}

int store_append(struct store *store, struct store_file *file, const void *data, size_t length, struct st_error **err) {
        const uint8_t *from = data;
        while (length > 0) {
                size_t room;
                uint8_t *to;
                size_t want = length > file->size ? length : (size_t)file->size;
                int r = reserve(store, file, want, &to, &room, err);
                if (r < 0)
                        return r;
                if (!to)
                        return store_spill(store, file, from, length, err);
                size_t n = length < room ? length : room;
                memcpy(to, from, n);
                store_commit(store, file, n);
                from += n;
                length -= n;
        }
        return 0;
}

/** A pipe whose bytes are few or none: a chunk is taken only when some came. */
static ssize_t append_few(struct store *store, struct store_file *file, int pipe_fd, struct st_error **err) {
        uint8_t buffer[PAGE];
        ssize_t n = read(pipe_fd, buffer, sizeof(buffer));
        if (n < 0)
                return errno == EINTR || errno == EAGAIN ? -EAGAIN
                                                         : st_error_errno(err, errno, "cannot read %s", file->name);
        if (n > 0) {
                int r = store_append(store, file, buffer, (size_t)n, err);
                if (r < 0)
                        return r;
        }
        return n;
}

static ssize_t splice_to_spill(struct store *store, struct store_file *file, int pipe_fd, struct st_error **err) {
        int r = open_spill(store, err);
        if (r < 0)
                return r;
        off_t offset = (off_t)store->spilled;
        ssize_t n = splice(pipe_fd, NULL, store->spill_fd, &offset, SPLICE_MAX, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n < 0 && errno == EINVAL) { /* a file system that cannot splice */
                uint8_t buffer[16 * PAGE];
                n = read(pipe_fd, buffer, sizeof(buffer));
                if (n > 0) {
                        r = store_spill(store, file, buffer, (size_t)n, err);
                        return r < 0 ? r : n;
                }
        }
        if (n < 0)
                return errno == EINTR || errno == EAGAIN ? -EAGAIN : spill_failed(store, errno, err);
        if (n > 0)
                spilled(store, file, (size_t)n);
        return n;
}

/** What the disk has no room for is still in the pipe: the next time memory is waited for, if some comes back. */
static ssize_t splice_or_wait(struct store *store, struct store_file *file, int pipe_fd, struct st_error **err) {
        struct st_error *error = NULL;
        ssize_t n = splice_to_spill(store, file, pipe_fd, &error);
        if (n == -ENOSPC && store->relief.relieve && !store->spill_full) {
                st_error_free(error);
                store->spill_full = true;
                return -EAGAIN;
        }
        if (error)
                st_error_move(err, error);
        return n;
}

ssize_t store_append_pipe(struct store *store, struct store_file *file, int pipe_fd, struct st_error **err) {
        size_t want = 0;
        if (!open_extent(file)) {
                int pending = 0;
                if (ioctl(pipe_fd, FIONREAD, &pending) < 0 || pending <= 0)
                        return append_few(store, file, pipe_fd, err);
                /* Chunks grow with the file: most files of CRIU are tiny, its pages are not. */
                want = (size_t)pending > file->size ? (size_t)pending : (size_t)file->size;
        }
        size_t room;
        uint8_t *to;
        int r = reserve(store, file, want, &to, &room, err);
        if (r < 0)
                return r;
        if (!to)
                return splice_or_wait(store, file, pipe_fd, err);
        ssize_t n = read(pipe_fd, to, room < READ_MAX ? room : READ_MAX);
        if (n < 0)
                return errno == EINTR || errno == EAGAIN ? -EAGAIN
                                                         : st_error_errno(err, errno, "cannot read %s", file->name);
        store_commit(store, file, (size_t)n);
        return n;
}

/** @return the file on disk that has the extents of a reader's file that are not in memory; -errno */
static int open_source(struct store_reader *reader) {
        if (!reader->file->path)
                return reader->store->spill_fd;
        if (!reader->opened) {
                int fd = open(reader->file->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
                if (fd < 0)
                        return -errno;
                reader->source = fd;
                reader->opened = true;
        }
        return reader->source;
}

/** A piece of an extent on disk, read into the reader's buffer. */
static ssize_t read_spilled(struct store_reader *reader, const struct store_extent *extent, const uint8_t **ret) {
        if (!reader->buffer && !(reader->buffer = malloc(PIECE_MAX)))
                return -ENOMEM;
        int fd = open_source(reader);
        if (fd < 0)
                return fd;
        size_t rest = extent->length - reader->position;
        for (;;) {
                ssize_t n = pread(fd, reader->buffer, rest < PIECE_MAX ? rest : PIECE_MAX,
                                  extent->offset + (off_t)reader->position);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n == 0)
                        return -EIO;
                if (n < 0)
                        return -errno;
                *ret = reader->buffer;
                reader->position += (size_t)n;
                return n;
        }
}

ssize_t store_read(struct store_reader *reader, const uint8_t **ret) {
        while (reader->extent < reader->file->n_extents) {
                const struct store_extent *extent = &reader->file->extents[reader->extent];
                size_t rest = extent->length - reader->position;
                if (rest == 0) {
                        reader->extent++;
                        reader->position = 0;
                        continue;
                }
                if (extent->given)
                        return -ESTALE;
                if (!extent->data)
                        return read_spilled(reader, extent, ret);
                size_t n = rest < PIECE_MAX ? rest : PIECE_MAX;
                *ret = extent->data + reader->position;
                reader->position += n;
                return (ssize_t)n;
        }
        return 0;
}

void store_seek(struct store_reader *reader, uint64_t offset) {
        reader->extent = 0;
        while (reader->extent < reader->file->n_extents && offset >= reader->file->extents[reader->extent].length)
                offset -= reader->file->extents[reader->extent++].length;
        reader->position = (size_t)offset;
}

void store_reader_clear(struct store_reader *reader) {
        free(reader->buffer);
        reader->buffer = NULL;
        if (reader->opened)
                close(reader->source);
        reader->opened = false;
}
