/* SPDX-License-Identifier: Apache-2.0 */
#include "image/cursor.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/archive.h"
#include "image/formats.h"
#include "image/native_reader.h"
#include "image/threads.h"

#define PIECE ((size_t)256 << 10)

struct cursor {
        struct image *image;
        struct archive **archives;    /* one for each part; NULL: not archives */
        struct native_reader *native; /* of a native image */
        int fd;                       /* the file of a directory */
        uint8_t *buffer;              /* of cursor_read_all() */
        size_t entry;                 /* the next one */
        size_t piece;                 /* of the layout, the next one */
        uint64_t left;                /* of the piece or file */
        unsigned part;                /* that it is in */
};

/** Opens an archive of the image, before its first file. */
int image_open_part(struct image *image, unsigned part, struct archive **ret, struct st_error **err) {
        _cleanup_(archive_freep) struct archive *archive = NULL;
        const struct image_part *file = &image->parts[part];
        int r = archive_open(file->path, file->fd, image->codec, &archive, err);
        if (r < 0)
                return r;
        if (archive_is_ours(archive) != image->verified)
                return st_error_set(err, EBADMSG, "%s changed while it was read", file->path);
        if (image->verified && part == 0) {
                struct manifest manifest = { 0 };
                r = archive_read_manifest(archive, &manifest, err);
                manifest_clear(&manifest);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(archive);
        return 0;
}

struct cursor *cursor_free(struct cursor *cursor) {
        if (!cursor)
                return NULL;
        for (unsigned i = 0; cursor->archives && i < cursor->image->layout.parts; i++)
                archive_free(cursor->archives[i]);
        free(cursor->archives);
        native_reader_free(cursor->native);
        free(cursor->buffer);
        if (cursor->fd >= 0)
                close(cursor->fd);
        free(cursor);
        return NULL;
}

int cursor_new(struct image *image, struct cursor **ret, struct st_error **err) {
        _cleanup_(cursor_freep) struct cursor *cursor = NEW(struct cursor);
        cursor->image = image;
        cursor->fd = -EBADF;
        if (image->native)
                cursor->native = native_reader_new(image->native);
        if (image->codec) {
                cursor->archives = xcalloc(image->layout.parts, sizeof(struct archive *));
                for (unsigned i = 0; i < image->layout.parts; i++) {
                        int r = image_open_part(image, i, &cursor->archives[i], err);
                        if (r < 0)
                                return r;
                }
        }
        *ret = TAKE_PTR(cursor);
        return 0;
}

void cursor_go_to(struct cursor *cursor, size_t index) {
        cursor->entry = index;
}

size_t cursor_position(const struct cursor *cursor) {
        return cursor->entry;
}

/** Goes to the next piece in its archive. */
static int next_piece(struct cursor *cursor, struct st_error **err) {
        const struct piece *piece = &cursor->image->layout.pieces[cursor->piece++];
        _cleanup_free_ char *name = layout_piece_name(&cursor->image->manifest, piece);
        int r = archive_next(cursor->archives[piece->part], name, piece->size, err);
        cursor->left = piece->size;
        cursor->part = piece->part;
        return r;
}

int cursor_next(struct cursor *cursor, const struct manifest_entry **ret, struct st_error **err) {
        struct image *image = cursor->image;
        if (cursor->entry == image->manifest.n)
                return 0;
        const struct manifest_entry *entry = &image->manifest.entries[cursor->entry];
        int r;
        if (cursor->archives) {
                while (cursor->piece < image->layout.first[cursor->entry]) { /* the rest of a file that was left */
                        r = next_piece(cursor, err);
                        if (r < 0)
                                return r;
                }
                r = next_piece(cursor, err);
        } else if (cursor->native) {
                native_reader_begin(cursor->native, &image->native->index.files[cursor->entry]);
                r = 0;
        } else {
                if (cursor->fd >= 0)
                        close(cursor->fd);
                r = cursor->fd = none_open_file(image, entry, err);
                cursor->left = entry->size;
        }
        cursor->entry++;
        *ret = entry;
        return r < 0 ? r : 1;
}

static ssize_t read_file(struct cursor *cursor, void *buffer, size_t n, struct st_error **err) {
        const struct manifest_entry *entry = &cursor->image->manifest.entries[cursor->entry - 1];
        n = cursor->left < n ? (size_t)cursor->left : n;
        ssize_t got;
        do
                got = read(cursor->fd, buffer, n);
        while (got < 0 && errno == EINTR);
        if (got < 0)
                return st_error_errno(err, errno, "cannot read %s/%s", cursor->image->path, entry->name);
        if (got == 0 && cursor->left > 0)
                return image_damaged(cursor->image, entry->name, "became shorter", err);
        cursor->left -= (uint64_t)got;
        return got;
}

static ssize_t read_native(struct cursor *cursor, void *buffer, size_t n, struct st_error **err) {
        ssize_t got = native_reader_read(cursor->native, buffer, n, err);
        if (got < 0)
                st_error_wrap(err, "cannot read %s of %s", cursor->image->manifest.entries[cursor->entry - 1].name,
                              cursor->image->path);
        return got;
}

ssize_t cursor_read(struct cursor *cursor, void *buffer, size_t n, struct st_error **err) {
        if (cursor->native)
                return read_native(cursor, buffer, n, err);
        if (!cursor->archives)
                return read_file(cursor, buffer, n, err);
        while (cursor->left == 0) {
                if (cursor->piece == cursor->image->layout.first[cursor->entry])
                        return 0;
                int r = next_piece(cursor, err);
                if (r < 0)
                        return r;
        }
        ssize_t got = archive_read(cursor->archives[cursor->part], buffer, n, err);
        if (got > 0)
                cursor->left -= (uint64_t)got;
        return got;
}

int cursor_read_all(struct cursor *cursor,
                    int (*take)(void *userdata, const void *data, size_t n, struct st_error **err), void *userdata,
                    int cancel_fd, struct st_error **err) {
        const struct manifest_entry *entry = &cursor->image->manifest.entries[cursor->entry - 1];
        /* What frames hold is checked as they are read. */
        bool hashed = cursor->image->verified && !cursor->native;
        _cleanup_(hasher_freep) struct hasher *hasher = hashed ? hasher_new() : NULL;
        if (!cursor->buffer && !(cursor->buffer = malloc(PIECE)))
                return st_error_errno(err, ENOMEM, "cannot read %s of %s", entry->name, cursor->image->path);
        ssize_t n;
        while ((n = cursor_read(cursor, cursor->buffer, PIECE, err)) > 0) {
                if (hasher)
                        hasher_update(hasher, cursor->buffer, (size_t)n);
                int r = take ? take(userdata, cursor->buffer, (size_t)n, err) : 0;
                if (r < 0)
                        return r;
                if (threads_signalled(cancel_fd))
                        return st_error_set(err, ECANCELED, "cancelled");
        }
        if (n < 0)
                return (int)n;
        if (hasher && !hash_equal(hasher_finish(hasher), entry->hash))
                return image_damaged(cursor->image, entry->name, "has a wrong checksum", err);
        return 0;
}

int cursor_end(struct cursor *cursor, struct st_error **err) {
        for (unsigned i = 0; cursor->archives && i < cursor->image->layout.parts; i++) {
                int r = archive_end(cursor->archives[i], err);
                if (r < 0)
                        return r;
        }
        return 0;
}
