/* SPDX-License-Identifier: Apache-2.0 */

/* Serving files of a native image: those that are decoded as a whole, and what is checked besides. */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/serving.h"

/** Larger files are not kept in memory. Most that are not pages are far smaller, but for deleted files' content. */
#define DECODE_AT_ONCE ((uint64_t)1 << 20)
#define PIECE ((size_t)256 << 10)

static int wrap(const struct serve *serve, const struct feed_source *source, ssize_t r, struct st_error **err) {
        if (r < 0)
                st_error_wrap(err, "cannot read %s of %s", source->entry->name, serve->image->path);
        return r < 0 ? (int)r : 0;
}

/** Reads a file to its end, so that all of its frames are known to be right; they are decoded again when it is fed. */
static int check_before(struct serve *serve, const struct feed_source *source, struct st_error **err) {
        _cleanup_free_ uint8_t *buffer = malloc(PIECE);
        if (!buffer)
                return st_error_errno(err, ENOMEM, "cannot serve %s", source->entry->name);
        ssize_t n;
        while ((n = native_reader_read(serve->reader, buffer, PIECE, err)) > 0)
                if (serve_stopped(serve))
                        return -ECANCELED;
        return wrap(serve, source, n, err);
}

int serve_prepare_native(struct serve *serve, struct feed_source *source, struct st_error **err) {
        const struct native_file *file = image_native_file(serve->image, source->entry);
        bool pages = streamer_is_pages(source->entry->name);
        source->entry = image_served_entry(serve->image, source->entry);
        native_reader_begin(serve->reader, file);
        if (file->size <= (pages ? SERVE_SMALL : DECODE_AT_ONCE)) {
                source->data = xmalloc((size_t)file->size + 1);
                ssize_t n = native_reader_read(serve->reader, source->data, (size_t)file->size, err);
                if (n < 0)
                        return wrap(serve, source, n, err);
                return serve_is_last(serve, source->entry) ? serve_wait_sealed(serve) : 0;
        }
        source->file = file;
        return pages ? 0 : check_before(serve, source, err);
}

static int check_frames(struct serve *serve, struct st_error **err) {
        const struct native *native = serve->image->native;
        _cleanup_(native_coder_freep) struct native_coder *coder = native_coder_new();
        _cleanup_free_ uint8_t *digests = NULL;
        size_t n_pages;
        int r = native_read_digests(native, 0, &digests, &n_pages, err);
        if (r < 0)
                return r;
        _cleanup_free_ uint8_t *stored = malloc(NATIVE_STORED_MAX), *out = malloc(NATIVE_FRAME_MAX);
        if (!stored || !out)
                return st_error_errno(err, ENOMEM, "cannot verify %s", serve->image->path);
        for (uint32_t i = 0; i < native->index.n_frames && r == 0; i++) {
                if (serve_stopped(serve))
                        return -ECANCELED;
                if (native->index.frames[i].kind == NATIVE_DATA)
                        r = native_read_frame(native, 0, i, coder, stored, out, err);
        }
        return r;
}

void *serve_native_sealer(void *userdata) {
        struct serve *serve = userdata;
        struct st_error *error = NULL;
        int r = check_frames(serve, &error);
        if (error)
                serve_fail(serve, error);
        else if (r == 0)
                serve_seal(serve);
        return NULL;
}
