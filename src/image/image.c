/* SPDX-License-Identifier: Apache-2.0 */

/* Reading checkpoints: recognising the format, and what all formats share. */

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
#include "image/formats.h"
#include "image/threads.h"

#define READ_LIMIT ((uint64_t)16 << 20)
#define PIECE ((size_t)1 << 20)

static const struct {
        const char *name, *suffix;
} formats[IMAGE_FORMAT_COUNT] = {
        [IMAGE_NONE] = { "none", "" },
        [IMAGE_ZSTD] = { "zstd", ".tar.zst" },
};

int image_format_from_text(const char *text, enum image_format *ret, struct st_error **err) {
        for (size_t i = 0; i < ELEMENTSOF(formats); i++)
                if (streq(formats[i].name, text)) {
                        *ret = (enum image_format)i;
                        return 0;
                }
        _cleanup_strv_ struct strv names = { 0 };
        for (size_t i = 0; i < ELEMENTSOF(formats); i++)
                strv_add(&names, formats[i].name);
        _cleanup_free_ char *list = strv_join(&names, ", ");
        return st_error_set(err, EINVAL, "unknown format '%s': the formats are %s", text, list);
}

const char *image_format_name(enum image_format format) {
        return formats[format].name;
}

const char *image_format_suffix(enum image_format format) {
        return formats[format].suffix;
}

enum image_format image_get_format(const struct image *image) {
        return image->format;
}

bool image_verified(const struct image *image) {
        return image->verified;
}

uint64_t image_size(const struct image *image) {
        return image->manifest.total;
}

int image_damaged(const struct image *image, const char *name, const char *what, struct st_error **err) {
        return st_error_set(err, EBADMSG, "%s is damaged: %s %s", image->path, name, what);
}

struct image *image_free(struct image *image) {
        if (!image)
                return NULL;
        if (image->fd >= 0)
                close(image->fd);
        manifest_clear(&image->manifest);
        free(image->path);
        free(image);
        return NULL;
}

/** What a file that is no checkpoint probably is, by its magic number. */
static const char *guess(int fd) {
        static const struct {
                const char *magic;
                size_t length;
                off_t offset;
                const char *what;
        } known[] = {
                { "\x1f\x8b", 2, 0, "gzip data" },
                { "\x04\x22\x4d\x18", 4, 0, "lz4 data" },
                { "\xfd"
                  "7zXZ",
                  5, 0, "xz data" },
                { "BZh", 3, 0, "bzip2 data" },
                { "ustar", 5, 257, "a tar archive without compression" },
                { "PK\x03\x04", 4, 0, "a zip archive" },
                { "\x7f"
                  "ELF",
                  4, 0, "a program or a core dump" },
        };
        char head[8];
        for (size_t i = 0; i < ELEMENTSOF(known); i++)
                if (pread(fd, head, known[i].length, known[i].offset) == (ssize_t)known[i].length &&
                    memcmp(head, known[i].magic, known[i].length) == 0)
                        return known[i].what;
        return NULL;
}

static int open_archive(struct image *image, struct st_error **err) {
        _cleanup_(archive_freep) struct archive *archive = NULL;
        int r = archive_open(image->path, image->fd, false, &archive, &image->manifest, err);
        image->format = IMAGE_ZSTD;
        image->verified = r == 0;
        return r;
}

int image_open(const char *path, struct image **ret, struct st_error **err) {
        _cleanup_(image_freep) struct image *image = NEW(struct image);
        struct stat st;
        image->path = xstrdup(path);
        /* Non-blocking: opening a FIFO that somebody put there must not wait. */
        image->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (image->fd < 0 && errno == ENOENT)
                return st_error_set(err, ENOENT, "there is no checkpoint %s", path);
        if (image->fd < 0 || fstat(image->fd, &st) < 0)
                return st_error_errno(err, errno, "cannot open the checkpoint %s", path);

        int r;
        if (S_ISDIR(st.st_mode))
                r = none_open(image, err);
        else if (!S_ISREG(st.st_mode))
                r = st_error_set(err, EINVAL, "not a checkpoint: %s is neither a directory nor a regular file", path);
        else if (archive_recognise(image->fd))
                r = open_archive(image, err);
        else if (st.st_size == 0)
                r = text_ends_with(path, formats[IMAGE_ZSTD].suffix)
                            ? st_error_set(err, EBADMSG, "%s is damaged: it is empty", path)
                            : st_error_set(err, EINVAL, "not a checkpoint: %s is empty", path);
        else if (text_ends_with(path, formats[IMAGE_ZSTD].suffix))
                r = st_error_set(err, EBADMSG, "%s is damaged: it does not begin as zstd data does", path);
        else
                r = guess(image->fd) ? st_error_set(err, EINVAL, "not a checkpoint: %s is %s", path, guess(image->fd))
                                     : st_error_set(err, EINVAL, "not a checkpoint: %s is of no known format", path);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(image);
        return 0;
}

/** Reads on in an archive until the file comes. */
static int read_from_archive(struct image *image, const struct manifest_entry *wanted, char *data,
                             struct st_error **err) {
        _cleanup_(archive_freep) struct archive *archive = NULL;
        struct manifest manifest = { 0 };
        int r = archive_open(image->path, image->fd, false, &archive, &manifest, err);
        manifest_clear(&manifest);
        if (r < 0)
                return r;
        const struct manifest_entry *entry;
        do {
                r = archive_next(archive, &image->manifest, &entry, err);
                if (r < 0)
                        return r;
                if (r == 0)
                        return image_damaged(image, wanted->name, "is missing", err);
        } while (entry != wanted);
        for (size_t at = 0; at < wanted->size;) {
                ssize_t n = archive_read(archive, data + at, (size_t)wanted->size - at, err);
                if (n < 0)
                        return (int)n;
                at += (size_t)n;
        }
        return 0;
}

int image_read(struct image *image, const char *name, char **ret, size_t *ret_size, struct st_error **err) {
        const struct manifest_entry *entry = manifest_find(&image->manifest, name);
        if (!entry)
                return st_error_set(err, ENOENT, "the checkpoint %s has no file %s", image->path, name);
        if (entry->size > READ_LIMIT)
                return st_error_set(err, EFBIG, "%s of the checkpoint %s is too large", name, image->path);
        size_t size = (size_t)entry->size;
        _cleanup_free_ char *data = malloc(size + 1);
        if (!data)
                return st_error_errno(err, ENOMEM, "cannot read %s of the checkpoint %s", name, image->path);
        int r = image->format == IMAGE_NONE ? none_read(image, entry, data, err)
                                            : read_from_archive(image, entry, data, err);
        if (r < 0)
                return r;
        if (image->verified && !hash_equal(hash_of(data, size), entry->hash))
                return image_damaged(image, name, "has a wrong checksum", err);
        data[size] = 0;
        *ret = TAKE_PTR(data);
        if (ret_size)
                *ret_size = size;
        return 0;
}

/** Reads one file of an archive to its end and checks its hash. */
static int verify_entry(struct image *image, struct archive *archive, const struct manifest_entry *entry,
                        uint8_t *buffer, int cancel_fd, struct st_error **err) {
        _cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
        ssize_t n;
        while ((n = archive_read(archive, buffer, PIECE, err)) > 0) {
                hasher_update(hasher, buffer, (size_t)n);
                if (threads_signalled(cancel_fd))
                        return st_error_set(err, ECANCELED, "cancelled");
        }
        if (n < 0)
                return (int)n;
        if (!hash_equal(hasher_finish(hasher), entry->hash))
                return image_damaged(image, entry->name, "has a wrong checksum", err);
        return 0;
}

static int verify_archive(struct image *image, int cancel_fd, struct st_error **err) {
        _cleanup_(archive_freep) struct archive *archive = NULL;
        _cleanup_free_ uint8_t *buffer = malloc(PIECE);
        if (!buffer)
                return st_error_errno(err, ENOMEM, "cannot verify %s", image->path);
        struct manifest manifest = { 0 };
        int r = archive_open(image->path, image->fd, true, &archive, &manifest, err);
        manifest_clear(&manifest);
        if (r < 0)
                return r;
        const struct manifest_entry *entry;
        while ((r = archive_next(archive, &image->manifest, &entry, err)) > 0) {
                r = verify_entry(image, archive, entry, buffer, cancel_fd, err);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : archive_end(archive, err);
}

int image_verify(struct image *image, int cancel_fd, struct st_error **err) {
        return image->format == IMAGE_NONE ? none_verify(image, cancel_fd, err) : verify_archive(image, cancel_fd, err);
}
