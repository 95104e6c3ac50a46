/* SPDX-License-Identifier: Apache-2.0 */

/* The threads that unpack the archives of a checkpoint into the store while CRIU asks for its files. */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "image/serving.h"

#define PIECE ((size_t)256 << 10)

struct unpacking {
        struct serve *serve;
        struct archive *archive;
        struct store_file *file;
        const struct piece *piece;
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
                uint64_t left = unpacking->piece->size - unpacking->file->size;
                *ret = store_reserve(serve->store, unpacking->file, left < PIECE * 8 ? (size_t)left : PIECE * 8,
                                     ret_room);
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
                        return st_error_errno(err, ENOMEM, "cannot unpack %s", unpacking->file->name);
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

static int unpack_file(struct unpacking *unpacking, const char *name, struct st_error **err) {
        struct serve *serve = unpacking->serve;
        struct image *image = serve->image;
        const struct piece *piece = unpacking->piece;
        const struct manifest_entry *entry = &image->manifest.entries[piece->entry];
        struct arrival *arrival = &serve->arrivals[piece - image->layout.pieces];
        bool checked = image->verified && !streamer_is_pages(entry->name);
        _cleanup_(hasher_freep) struct hasher *hasher = checked ? hasher_new() : NULL;
        unpacking->hasher = hasher;

        pthread_mutex_lock(&serve->lock);
        unpacking->file = arrival->file = store_add(serve->store, name, err);
        pthread_mutex_unlock(&serve->lock);
        if (!unpacking->file)
                return -EBADMSG;
        while (unpacking->file->size < piece->size) {
                int r = unpack_piece(unpacking, err);
                if (r < 0)
                        return r;
        }
        if (hasher && !hash_equal(hasher_finish(hasher), entry->hash))
                return image_damaged(image, entry->name, "has a wrong checksum", err);

        pthread_mutex_lock(&serve->lock);
        arrival->complete = true;
        pthread_cond_broadcast(&serve->changed);
        bool over = is_over(serve);
        pthread_mutex_unlock(&serve->lock);
        return over ? -ECANCELED : 0;
}

static int unpack(struct unpacking *unpacking, unsigned part, struct st_error **err) {
        struct serve *serve = unpacking->serve;
        struct image *image = serve->image;
        int r = image_open_part(image, part, &unpacking->archive, err);
        for (size_t i = 0; i < image->layout.n && r >= 0; i++) {
                unpacking->piece = &image->layout.pieces[i];
                if (unpacking->piece->part != part)
                        continue;
                _cleanup_free_ char *name = layout_piece_name(&image->manifest, unpacking->piece);
                r = archive_next(unpacking->archive, name, unpacking->piece->size, err);
                if (r >= 0)
                        r = unpack_file(unpacking, name, err);
        }
        if (r >= 0)
                r = archive_end(unpacking->archive, err);
        if (r < 0)
                return r;
        serve_seal(serve);
        return 0;
}

void *unpack_thread(void *userdata) {
        const struct unpacker *unpacker = userdata;
        struct unpacking unpacking = { .serve = unpacker->serve };
        struct st_error *error = NULL;
        unpack(&unpacking, unpacker->part, &error);
        if (error)
                serve_fail(unpacking.serve, error);
        archive_free(unpacking.archive);
        free(unpacking.buffer);
        return NULL;
}
