/* SPDX-License-Identifier: Apache-2.0 */

/* Reading files that are too large for memory, and whole checkpoints. */

#include <errno.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "image/cursor.h"
#include "image/formats.h"

struct loading {
        struct store *store;
        struct store_file *file;
};

static int take_to_store(void *userdata, const void *data, size_t n, struct st_error **err) {
        const struct loading *loading = userdata;
        return store_append(loading->store, loading->file, data, n, err);
}

int image_load(struct image *image, struct store *store, int cancel_fd, struct st_error **err) {
        _cleanup_(cursor_freep) struct cursor *cursor = NULL;
        const struct manifest_entry *entry;
        int r = cursor_new(image, &cursor, err);
        if (r < 0)
                return r;
        while ((r = cursor_next(cursor, &entry, err)) > 0) {
                struct loading loading = { store, store_add(store, entry->name, err) };
                if (!loading.file)
                        return -EBADMSG;
                r = cursor_read_all(cursor, take_to_store, &loading, cancel_fd, err);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : cursor_end(cursor, err);
}

int image_verify(struct image *image, int cancel_fd, struct st_error **err) {
        if (image->format == IMAGE_NONE)
                return none_verify(image, cancel_fd, err); /* by two threads */
        if (image->native)
                return image_verify_native(image, cancel_fd, err);
        _cleanup_(cursor_freep) struct cursor *cursor = NULL;
        const struct manifest_entry *entry;
        int r = cursor_new(image, &cursor, err);
        if (r < 0)
                return r;
        while ((r = cursor_next(cursor, &entry, err)) > 0) {
                r = cursor_read_all(cursor, NULL, NULL, cancel_fd, err);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : cursor_end(cursor, err);
}

static int take_to_fd(void *userdata, const void *data, size_t n, struct st_error **err) {
        int r = io_write_full(*(const int *)userdata, data, n);
        return r < 0 ? st_error_errno(err, r, "cannot write a file of a checkpoint") : 0;
}

int image_copy_to_fd(struct image *image, const char *name, int fd, struct st_error **err) {
        const struct image_override *override = image_find_override(image, name);
        if (override)
                return take_to_fd(&fd, override->data, (size_t) override->entry.size, err);
        const struct manifest_entry *entry = manifest_find(&image->manifest, name);
        if (!entry)
                return st_error_set(err, ENOENT, "the checkpoint %s has no file %s", image->path, name);
        const char *cached;
        int r = image_seek(image, entry, &cached, err);
        if (r < 0)
                return r;
        if (cached)
                return take_to_fd(&fd, cached, (size_t)entry->size, err);
        r = cursor_read_all(image->cursor, take_to_fd, &fd, -EBADF, err);
        if (r < 0)
                image->cursor = cursor_free(image->cursor);
        return r;
}
