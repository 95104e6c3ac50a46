/* SPDX-License-Identifier: Apache-2.0 */

/* Writing a checkpoint: what all formats share, from the first byte under the hidden name to the final name. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "image/formats.h"
#include "image/layout.h"
#include "image/native_encoder.h"
#include "image/partial.h"
#include "image/streamer.h"
#include "image/threads.h"

#define PROGRESS_STEP ((uint64_t)4 << 20)

int writing_step(struct writing *writing, uint64_t bytes, struct st_error **err) {
        pthread_mutex_lock(&writing->lock);
        writing->done += bytes;
        uint64_t untold = writing->done - writing->told;
        if (writing->options->progress && !atomic_load(&writing->silent) &&
            (untold >= PROGRESS_STEP || (untold > 0 && writing->done == writing->store->total))) {
                writing->told = writing->done;
                writing->options->progress(writing->done, writing->store->total, writing->options->userdata);
        }
        pthread_mutex_unlock(&writing->lock);
        if (threads_signalled(writing->options->cancel_fd) || atomic_load(&writing->failed))
                return st_error_set(err, ECANCELED, "cancelled");
        return 0;
}

int writing_hash(struct writing *writing, size_t file, struct st_error **err) {
        _cleanup_(store_reader_clear) struct store_reader reader = {
                .store = writing->store,
                .file = writing->files[file],
        };
        _cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
        const uint8_t *piece;
        ssize_t n;
        while ((n = store_read(&reader, &piece)) > 0) {
                hasher_update(hasher, piece, (size_t)n);
                int r = writing_step(writing, 0, err);
                if (r < 0)
                        return r;
        }
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot read back %s", reader.file->name);
        writing->manifest.entries[file].hash = hasher_finish(hasher);
        return 0;
}

int writing_failed(const struct writing *writing, int number, struct st_error **err) {
        if (number < 0)
                number = -number;
        if (number != ENOSPC && number != EDQUOT)
                return st_error_errno(err, number, "cannot write %s", writing->options->partial);
        _cleanup_free_ char *directory = path_directory(writing->options->destination);
        _cleanup_free_ char *needed = text_from_size(writing->store->total);
        st_error_set(err, ENOSPC, "no space left on %s, %s%s needed", directory,
                     writing->options->format == IMAGE_NONE ? "" : "up to ", needed);
        st_error_hint(err, writing->options->format == IMAGE_NONE ? "make room there, or compress the checkpoint"
                                                                  : "make room there");
        return -ENOSPC;
}

/** The order of the archive: the state, then files of CRIU as it asks for them: small ones first, pages last. */
static int rank(const struct store_file *file) {
        return streq(file->name, IMAGE_STATE) ? 0 : streamer_is_pages(file->name) ? 2 : 1;
}

static void choose_order(struct writing *writing) {
        for (int wanted = 0; wanted <= 2; wanted++)
                for (size_t i = 0; i < writing->store->n_files; i++)
                        if (rank(writing->store->files[i]) == wanted)
                                writing->files[writing->n_files++] = writing->store->files[i];
        uint64_t pages = 0;
        for (size_t i = 0; i < writing->n_files; i++) {
                const struct store_file *file = writing->files[i];
                pages += streamer_is_pages(file->name) ? file->size : 0;
                manifest_add(&writing->manifest, file->name, file->size + store_referred(file), (struct hash){ 0 });
        }
        if (writing->options->streams > 1) {
                writing->manifest.streams = writing->options->streams;
                writing->manifest.piece = layout_piece_size(pages, writing->options->streams);
        }
}

static int check_names(const struct store *store, struct st_error **err) {
        if (store_find(store, IMAGE_MANIFEST))
                return st_error_set(err, EINVAL, "a file of the process's image is named %s", IMAGE_MANIFEST);
        if (store->n_files > MANIFEST_FILES_MAX)
                return st_error_set(err, E2BIG, "the process's image has more than %d files", MANIFEST_FILES_MAX);
        return 0;
}

int image_check_absent(const char *path, struct st_error **err) {
        struct stat st;
        if (lstat(path, &st) == 0)
                return st_error_set(err, EEXIST, "%s exists already", path);
        return errno == ENOENT ? 0 : st_error_errno(err, errno, "cannot write %s", path);
}

static bool is_directory(const struct image_write *options) {
        return options->format == IMAGE_NONE || options->streams > 1;
}

/** Gives the checkpoint its name, never over something that exists. */
static int rename_new(const struct image_write *options, struct st_error **err) {
        const char *from = options->partial, *to = options->destination;
        if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
                return 0;
        if (errno == EINVAL || errno == ENOSYS) { /* a file system that cannot */
                if (!is_directory(options)) {
                        if (link(from, to) == 0) {
                                unlink(from);
                                return 0;
                        }
                } else {
                        int r = image_check_absent(to, err);
                        if (r < 0)
                                return r;
                        if (rename(from, to) == 0)
                                return 0;
                }
        }
        if (errno == EEXIST || errno == ENOTEMPTY)
                return st_error_set(err, EEXIST, "%s exists already", to);
        return st_error_errno(err, errno, "cannot rename %s to %s", from, to);
}

/** The directory that is there already, locked by who made it, becomes the owner's now. @return descriptor or -errno */
static int adopt(const struct image_write *options) {
        _cleanup_close_ int fd = open(options->partial, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fchmod(fd, 0700) < 0 || fchown(fd, options->uid, options->gid) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/** Makes what is written to, at the hidden path. */
static int begin(struct writing *writing, struct st_error **err) {
        const struct image_write *options = writing->options;
        _cleanup_free_ char *directory = path_directory(options->destination);
        int r = options->in_place ? 0 : image_check_absent(options->partial, err);
        if (r < 0)
                return r;
        (void)partial_clean(directory, options->uid);
        int fd = options->in_place ? adopt(options) : partial_make(options, is_directory(options));
        if (fd < 0) {
                r = writing_failed(writing, fd, err);
                if (fd != -EEXIST)
                        io_remove_tree(options->partial);
                return r;
        }
        writing->fd = fd;
        return 0;
}

static int write_files(struct writing *writing, struct st_error **err) {
        switch (writing->options->format) {
        case IMAGE_NONE:
                return none_write(writing, writing->fd, err);
        case IMAGE_NATIVE:
                return native_write(writing, writing->fd, err);
        default:
                return archive_write(writing, writing->fd, err);
        }
}

/** Writes, syncs, renames. Only what this call made, or was given, is removed when it fails. */
static int write_and_commit(struct writing *writing, struct st_error **err) {
        const struct image_write *options = writing->options;
        int r = writing->fd >= 0 ? 0 : begin(writing, err);
        if (r < 0)
                return r;
        r = write_files(writing, err);
        if (r == 0)
                r = rename_new(options, err);
        if (r < 0) {
                io_remove_tree(options->partial);
                return r;
        }
        r = io_sync_directory_of(options->destination);
        if (r < 0) {
                _cleanup_free_ char *directory = path_directory(options->destination);
                st_error_errno(err, r, "cannot sync %s", directory);
                io_remove_tree(options->destination);
        }
        return r;
}

static struct writing *writing_new(struct store *store, const struct image_write *options) {
        struct writing *writing = NEW(struct writing);
        writing->store = store;
        writing->options = options;
        writing->fd = -EBADF;
        writing->manifest.format = options->format;
        pthread_mutex_init(&writing->lock, NULL);
        return writing;
}

static struct writing *writing_free(struct writing *writing) {
        native_encoder_free(writing->encoder);
        if (writing->fd >= 0)
                close(writing->fd);
        manifest_clear(&writing->manifest);
        free(writing->files);
        pthread_mutex_destroy(&writing->lock);
        free(writing);
        return NULL;
}

/** store_relief: the budget is spent. */
static int relieve(void *userdata, struct st_error **err) {
        struct writing *writing = userdata;
        int r = 0;
        if (writing->fd < 0) {
                r = begin(writing, err);
                if (r == 0)
                        r = native_encoder_start(writing->encoder, writing->fd, err);
                if (r < 0)
                        return st_error_wrap(err, "cannot write the checkpoint %s", writing->options->destination);
        }
        native_give(writing->encoder, writing->store);
        return native_encoder_returned(writing->encoder, writing->store->spill_full, err);
}

static void abandon(void *userdata) {
        struct writing *writing = userdata;
        writing->encoder = native_encoder_free(writing->encoder); /* whose threads write to it */
        if (writing->fd >= 0)
                io_remove_tree(writing->options->partial);
        writing_free(writing);
}

int image_write_early(struct store *store, const struct image_write *options, struct st_error **err) {
        if (options->format != IMAGE_NATIVE)
                return 0;
        struct writing *writing = writing_new(store, options);
        writing->copy = *options;
        writing->options = &writing->copy;
        writing->silent = true;
        int r = native_encoder_new(writing, &writing->encoder, err);
        if (r < 0) {
                writing_free(writing);
                return r;
        }
        store->relief = (struct store_relief){ relieve, abandon, writing };
        return 0;
}

/** What image_write_early() prepared. @return NULL: nothing */
static struct writing *take_early(struct store *store) {
        struct writing *writing = store->relief.userdata;
        store->relief = (struct store_relief){ 0 };
        if (writing)
                atomic_store(&writing->silent, false);
        return writing;
}

void image_early(const struct store *store, struct image_early *ret) {
        const struct writing *writing = store->relief.userdata;
        *ret = (struct image_early){ 0 };
        if (writing) {
                memcpy(ret->id, writing->encoder->header.id, NATIVE_ID);
                ret->parent = writing->encoder->parent;
        }
}

int image_write(struct store *store, const struct image_write *options, struct st_error **err) {
        int r = image_check_streams(options->format, options->streams, err);
        if (r == 0)
                r = image_check_absent(options->destination, err);
        if (r == 0)
                r = check_names(store, err);
        if (r < 0)
                return r;
        struct writing *writing = take_early(store) ?: writing_new(store, options);
        writing->files = xcalloc(store->n_files, sizeof(*writing->files));
        choose_order(writing);
        r = write_and_commit(writing, err);
        if (r < 0)
                st_error_wrap(err, "cannot write the checkpoint %s", options->destination);
        writing_free(writing);
        return r;
}
