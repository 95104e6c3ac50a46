/* SPDX-License-Identifier: Apache-2.0 */

/* The thread that unpacks an archive into the store while CRIU asks for its files. */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "image/serving.h"

#define PIECE ((size_t)256 << 10)

struct unpacking {
        struct serve *serve;
        struct archive *archive;
        struct store_file *file;
        const struct manifest_entry *entry;
        struct hasher *hasher;
        uint8_t *buffer; /* for what goes to the spill file */
};

/** Nobody will ask for anything any more. With the lock held. */
static bool is_over(const struct serve *serve) {
        return serve_stopped(serve) || atomic_load(&serve->finishing) || (serve->gone && serve->n_feeding == 0);
}

/**
 * Room for the next piece. When the memory is spent it waits until some was read by CRIU; but never while somebody
 * waits for bytes that have not come: these may be behind what fills the memory, so then it is written to the disk.
 *
 * @return 1 with room in memory; 0: spill it; -ECANCELED
 */
static int find_room(struct unpacking *unpacking, uint8_t **ret, size_t *ret_room) {
        struct serve *serve = unpacking->serve;
        int r = -ECANCELED;
        pthread_mutex_lock(&serve->lock);
        while (!is_over(serve)) {
                size_t left = unpacking->entry->size - unpacking->file->size < PIECE * 8
                                      ? (size_t)(unpacking->entry->size - unpacking->file->size)
                                      : PIECE * 8;
                *ret = store_reserve(serve->store, unpacking->file, left, ret_room);
                r = *ret ? 1 : 0;
                if (*ret || serve->starving > 0)
                        break;
                r = -ECANCELED;
                pthread_cond_wait(&serve->changed, &serve->lock);
        }
        pthread_mutex_unlock(&serve->lock);
        return r;
}

/** Decodes a piece to where it stays. */
static int unpack_piece(struct unpacking *unpacking, struct st_error **err) {
        struct serve *serve = unpacking->serve;
        uint8_t *to;
        size_t room = PIECE;
        int r = find_room(unpacking, &to, &room);
        if (r < 0)
                return r;
        bool spill = r == 0;
        if (spill) {
                if (!unpacking->buffer && !(unpacking->buffer = malloc(PIECE)))
                        return st_error_errno(err, ENOMEM, "cannot unpack %s", unpacking->entry->name);
                to = unpacking->buffer;
                room = PIECE;
        }
        ssize_t n = archive_read(unpacking->archive, to, room < PIECE ? room : PIECE, err);
        if (n < 0)
                return (int)n;
        if (unpacking->hasher)
                hasher_update(unpacking->hasher, to, (size_t)n);

        r = 0;
        pthread_mutex_lock(&serve->lock);
        if (spill)
                r = store_spill(serve->store, unpacking->file, to, (size_t)n, err);
        else
                store_commit(serve->store, unpacking->file, (size_t)n);
        pthread_cond_broadcast(&serve->changed);
        pthread_mutex_unlock(&serve->lock);
        return r;
}

static int unpack_file(struct unpacking *unpacking, struct st_error **err) {
        struct serve *serve = unpacking->serve;
        const struct manifest_entry *entry = unpacking->entry;
        struct arrival *arrival = &serve->arrivals[entry - serve->image->manifest.entries];
        bool pages = streamer_is_pages(entry->name);
        _cleanup_(hasher_freep) struct hasher *hasher = pages ? NULL : hasher_new();
        unpacking->hasher = hasher;

        pthread_mutex_lock(&serve->lock);
        unpacking->file = arrival->file = store_add(serve->store, entry->name, err);
        pthread_mutex_unlock(&serve->lock);
        if (!unpacking->file)
                return -EBADMSG;
        while (unpacking->file->size < entry->size) {
                int r = unpack_piece(unpacking, err);
                if (r < 0)
                        return r;
        }
        if (hasher && !hash_equal(hasher_finish(hasher), entry->hash))
                return image_damaged(serve->image, entry->name, "has a wrong checksum", err);

        pthread_mutex_lock(&serve->lock);
        arrival->complete = true;
        pthread_cond_broadcast(&serve->changed);
        bool over = is_over(serve);
        pthread_mutex_unlock(&serve->lock);
        return over ? -ECANCELED : 0;
}

static int unpack(struct unpacking *unpacking, struct st_error **err) {
        struct image *image = unpacking->serve->image;
        struct manifest manifest = { 0 };
        int r = archive_open(image->path, image->fd, false, &unpacking->archive, &manifest, err);
        manifest_clear(&manifest);
        /* What follows the last file is image_verify()'s business: all that CRIU gets is checked by its own hash. */
        for (size_t i = 0; i < image->manifest.n && r >= 0; i++) {
                r = archive_next(unpacking->archive, &image->manifest, &unpacking->entry, err);
                if (r > 0)
                        r = unpack_file(unpacking, err);
        }
        return r;
}

void *unpack_thread(void *userdata) {
        struct unpacking unpacking = { .serve = userdata };
        struct st_error *error = NULL;
        unpack(&unpacking, &error);
        if (error)
                serve_fail(unpacking.serve, error);
        archive_free(unpacking.archive);
        free(unpacking.buffer);
        return NULL;
}
