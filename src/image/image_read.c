/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading single files. An archive can only be read in order, so one cursor goes on from where it was, and what it
 * passes is kept in memory as long as it is small: whoever reads all small files, in whatever order, decodes them once.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/cursor.h"
#include "image/formats.h"
#include "image/streamer.h"

#define READ_LIMIT ((uint64_t)16 << 20)
#define CACHE_LIMIT ((uint64_t)64 << 20)

struct filling {
        char *data;
        size_t have;
};

static int take_to_memory(void *userdata, const void *data, size_t n, struct st_error **err) {
        struct filling *filling = userdata;
        (void)err;
        memcpy(filling->data + filling->have, data, n);
        filling->have += n;
        return 0;
}

/** Reads the file at which the cursor stands. @param ret malloc'ed, NUL behind it */
static int read_here(struct image *image, const struct manifest_entry *entry, char **ret, struct st_error **err) {
        _cleanup_free_ char *data = malloc((size_t)entry->size + 1);
        if (!data)
                return st_error_errno(err, ENOMEM, "cannot read %s of the checkpoint %s", entry->name, image->path);
        struct filling filling = { data, 0 };
        int r = cursor_read_all(image->cursor, take_to_memory, &filling, -EBADF, err);
        if (r < 0)
                return r;
        data[filling.have] = 0;
        *ret = TAKE_PTR(data);
        return 0;
}

/** Keeps the file at which the cursor stands, if it is small. */
static int cache_here(struct image *image, const struct manifest_entry *entry, struct st_error **err) {
        size_t index = (size_t)(entry - image->manifest.entries);
        if (streamer_is_pages(entry->name) || entry->size > READ_LIMIT || entry->size > CACHE_LIMIT - image->n_cached)
                return 0;
        int r = read_here(image, entry, &image->cached[index], err);
        if (r == 0)
                image->n_cached += entry->size;
        return r;
}

/** Makes the cursor stand at the file, or finds it in memory. */
static int seek_archive(struct image *image, const struct manifest_entry *wanted, struct st_error **err) {
        size_t index = (size_t)(wanted - image->manifest.entries);
        const struct manifest_entry *entry = NULL;
        int r = 0;
        if (!image->cached)
                image->cached = xcalloc(image->manifest.n, sizeof(*image->cached));
        if (image->cached[index])
                return 0;
        if (image->cursor && cursor_position(image->cursor) > index)
                image->cursor = cursor_free(image->cursor);
        if (!image->cursor)
                r = cursor_new(image, &image->cursor, err);
        while (r >= 0 && entry != wanted) {
                r = cursor_next(image->cursor, &entry, err);
                if (r > 0 && entry != wanted && !image->cached[entry - image->manifest.entries])
                        r = cache_here(image, entry, err);
        }
        if (r < 0)
                image->cursor = cursor_free(image->cursor);
        return r < 0 ? r : 0;
}

int image_seek(struct image *image, const struct manifest_entry *entry, const char **ret, struct st_error **err) {
        int r = 0;
        *ret = NULL;
        if (image->codec) {
                r = seek_archive(image, entry, err);
                if (r == 0)
                        *ret = image->cached[entry - image->manifest.entries];
                return r;
        }
        if (!image->native) /* a native one's has the frames in memory that the next file may lie in */
                image->cursor = cursor_free(image->cursor);
        if (!image->cursor)
                r = cursor_new(image, &image->cursor, err);
        if (r == 0) {
                cursor_go_to(image->cursor, (size_t)(entry - image->manifest.entries));
                r = cursor_next(image->cursor, &entry, err);
        }
        return r < 0 ? r : 0;
}

static int read_override(const struct image_override *override, char **ret, size_t *ret_size) {
        size_t size = (size_t) override->entry.size;
        char *data = *ret = xmalloc(size + 1);
        if (size > 0)
                memcpy(data, override->data, size);
        data[size] = 0;
        if (ret_size)
                *ret_size = size;
        return 0;
}

int image_read(struct image *image, const char *name, char **ret, size_t *ret_size, struct st_error **err) {
        const struct image_override *override = image_find_override(image, name);
        if (override)
                return read_override(override, ret, ret_size);
        const struct manifest_entry *entry = manifest_find(&image->manifest, name);
        if (!entry)
                return st_error_set(err, ENOENT, "the checkpoint %s has no file %s", image->path, name);
        if (entry->size > READ_LIMIT)
                return st_error_set(err, EFBIG, "%s of the checkpoint %s is too large", name, image->path);
        const char *cached = NULL;
        int r = image_seek(image, entry, &cached, err);
        if (r == 0 && !cached && image->codec) {
                r = cache_here(image, entry, err);
                cached = image->cached[entry - image->manifest.entries];
        }
        if (r == 0 && cached) {
                char *data = *ret = xmalloc((size_t)entry->size + 1);
                memcpy(data, cached, (size_t)entry->size + 1);
        } else if (r == 0) {
                r = read_here(image, entry, ret, err);
        }
        if (r < 0)
                image->cursor = cursor_free(image->cursor); /* it stands nobody knows where */
        else if (ret_size)
                *ret_size = (size_t)entry->size;
        return r;
}
