/* SPDX-License-Identifier: Apache-2.0 */

/* Opening checkpoints: recognising the format, and what all formats share. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "image/archive.h"
#include "image/cursor.h"
#include "image/formats.h"

#define NATIVE_SUFFIX ".stasis"
/** Bytes of all files of a checkpoint together; as much a manifest takes for each. */
#define TOTAL_MAX (UINT64_C(1) << 60)
#define ATTEMPTS 5

const char *image_format_name(enum image_format format) {
        const struct codec *codec = codec_of(format);
        return codec ? codec->name : format == IMAGE_NATIVE ? "image" : "none";
}

const char *image_format_suffix(enum image_format format) {
        const struct codec *codec = codec_of(format);
        return codec ? codec->suffix : format == IMAGE_NATIVE ? NATIVE_SUFFIX : "";
}

int image_format_from_text(const char *text, enum image_format *ret, struct st_error **err) {
        _cleanup_strv_ struct strv names = { 0 };
        for (enum image_format f = 0; f < IMAGE_FORMAT_COUNT; f++) {
                if (streq(image_format_name(f), text)) {
                        *ret = f;
                        return 0;
                }
                strv_add(&names, image_format_name(f));
        }
        _cleanup_free_ char *list = strv_join(&names, ", ");
        return st_error_set(err, EINVAL, "unknown format '%s': the formats are %s", text, list);
}

bool image_format_from_path(const char *path, enum image_format *ret) {
        const struct codec *codec = codec_by_suffix(path);
        bool native = text_ends_with(path, NATIVE_SUFFIX);
        if (codec || native)
                *ret = codec ? codec->format : IMAGE_NATIVE;
        return codec || native;
}

char *image_known_suffixes(void) {
        _cleanup_free_ char *codecs = codec_known_suffixes();
        return xasprintf("%s, %s", NATIVE_SUFFIX, codecs);
}

int image_check_streams(enum image_format format, unsigned streams, struct st_error **err) {
        if (streams <= 1)
                return 0;
        if (!codec_of(format)) {
                st_error_set(err, EINVAL, "a checkpoint of the format %s cannot be in several streams",
                             image_format_name(format));
                st_error_hint(err, format == IMAGE_NATIVE
                                           ? "it is written and read by all cores as it is"
                                           : "choose one of the archives: --compression tar, lz4, zstd, …");
                return -EINVAL;
        }
        if (streams > IMAGE_STREAMS_MAX)
                return st_error_set(err, EINVAL, "a checkpoint can be in %d streams at most", IMAGE_STREAMS_MAX);
        return 0;
}

const char *image_path(const struct image *image) {
        return image->path;
}

bool image_is_overridden(const struct image *image) {
        return image->n_overrides > 0;
}

enum image_format image_get_format(const struct image *image) {
        return image->format;
}

unsigned image_streams(const struct image *image) {
        return image->codec ? image->manifest.streams : 0;
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
        cursor_free(image->cursor);
        for (size_t i = 0; image->cached && i < image->manifest.n; i++)
                free(image->cached[i]);
        free(image->cached);
        for (unsigned i = 0; image->parts && i < image->layout.parts; i++) {
                if (image->parts[i].fd >= 0)
                        close(image->parts[i].fd);
                free(image->parts[i].path);
        }
        free(image->parts);
        layout_clear(&image->layout);
        image_clear_selections(image);
        native_free(image->native);
        if (image->fd >= 0)
                close(image->fd);
        manifest_clear(&image->manifest);
        image_clear_overrides(image);
        free(image->path);
        free(image);
        return NULL;
}

/** What a file that is no checkpoint probably is, by its magic number. */
static const char *guess(int fd) {
        static const struct {
                const char *magic;
                size_t length;
                const char *what;
        } known[] = {
                { "\xfd"
                  "7zXZ",
                  5, "xz data" },
                { "BZh", 3, "bzip2 data" },
                { "\x02\x21\x4c\x18", 4, "lz4 data in its legacy format" },
                { "PK\x03\x04", 4, "a zip archive" },
                { "\x7f"
                  "ELF",
                  4, "a program or a core dump" },
                { "SQLite format 3", 15, "a database" },
                { "#!", 2, "a script" },
        };
        char head[16];
        for (size_t i = 0; i < ELEMENTSOF(known); i++)
                if (pread(fd, head, known[i].length, 0) == (ssize_t)known[i].length &&
                    memcmp(head, known[i].magic, known[i].length) == 0)
                        return known[i].what;
        return NULL;
}

static void add_part(struct image *image, unsigned number, const char *path, int fd) {
        image->parts[number].path = xstrdup(path);
        image->parts[number].fd = fd;
}

/** One archive: takes image->fd. */
static int open_archive(struct image *image, struct st_error **err) {
        _cleanup_(archive_freep) struct archive *archive = NULL;
        int r = archive_open(image->path, image->fd, image->codec, &archive, err);
        if (r < 0)
                return r;
        if (!archive_is_ours(archive)) {
                r = foreign_open(image, archive, err);
        } else {
                r = archive_read_manifest(archive, &image->manifest, err);
                if (r == 0 && image->manifest.streams > 0) {
                        st_error_set(err, EINVAL, "not a checkpoint: %s is one archive of several", image->path);
                        st_error_hint(err, "name the directory that it lies in");
                        return -EINVAL;
                }
                image->verified = true;
                if (r == 0)
                        r = layout_make(&image->manifest, &image->layout, err);
        }
        if (r < 0)
                return r;
        image->parts = xcalloc(1, sizeof(*image->parts));
        add_part(image, 0, image->path, TAKE_FD(image->fd));
        return 0;
}

/** Opens an archive of a checkpoint in streams. @return descriptor, -ENOENT, -EBADMSG, -errno */
static int open_part_file(struct image *image, const char *name, struct st_error **err) {
        _cleanup_close_ int fd = openat(image->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;
        if (fd < 0 && (errno == ENOENT || errno == ELOOP))
                return image_damaged(image, name, errno == ENOENT ? "is missing" : "is a link", err);
        if (fd < 0 || fstat(fd, &st) < 0)
                return st_error_errno(err, errno, "cannot read %s/%s", image->path, name);
        if (!S_ISREG(st.st_mode))
                return image_damaged(image, name, "is not a regular file", err);
        return TAKE_FD(fd);
}

/** The first archive has the manifest. */
static int open_first(struct image *image, const char *path, int fd, struct st_error **err) {
        _cleanup_(archive_freep) struct archive *archive = NULL;
        image->codec = archive_recognise(fd);
        if (!image->codec)
                return st_error_set(err, EBADMSG, "%s is damaged: it does not begin as an archive does", path);
        int r = archive_open(path, fd, image->codec, &archive, err);
        if (r == 0 && !archive_is_ours(archive))
                r = st_error_set(err, EBADMSG, "%s is damaged: it is truncated, or was not written by stasis", path);
        if (r == 0)
                r = archive_read_manifest(archive, &image->manifest, err);
        if (r == 0 && image->manifest.streams == 0)
                r = st_error_set(err, EBADMSG, "%s is damaged: it is not one of several archives", path);
        if (r == 0)
                r = layout_make(&image->manifest, &image->layout, err);
        return r;
}

/** A further one: it must have a footer, which tells whether it is whole. */
static int check_part(struct image *image, unsigned number, struct st_error **err) {
        _cleanup_(archive_freep) struct archive *archive = NULL;
        const struct codec *codec = archive_recognise(image->parts[number].fd); /* an empty tar begins as none's does */
        int r = archive_open(image->parts[number].path, image->parts[number].fd, image->codec, &archive, err);
        if (r == 0 && (!archive_is_ours(archive) || (codec && codec != image->codec)))
                r = st_error_set(err, EBADMSG, "%s is damaged: it is truncated, or was not written by stasis",
                                 image->parts[number].path);
        return r;
}

/** The name of the first archive in the directory, malloc'ed; NULL: there is none. */
static char *find_first(const struct image *image) {
        for (enum image_format f = 0; f < IMAGE_FORMAT_COUNT; f++) {
                _cleanup_free_ char *name = layout_part_name(0, image_format_suffix(f));
                if (codec_of(f) && faccessat(image->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                        return TAKE_PTR(name);
        }
        return NULL;
}

static int open_streams(struct image *image, const char *first, struct st_error **err) {
        const char *suffix = strchr(first, '.');
        _cleanup_close_ int fd = open_part_file(image, first, err);
        if (fd < 0)
                return fd;
        _cleanup_free_ char *first_path = path_join(image->path, first);
        int r = open_first(image, first_path, fd, err);
        if (r < 0)
                return r;
        image->parts = xcalloc(image->layout.parts, sizeof(*image->parts));
        for (unsigned i = 0; i < image->layout.parts; i++)
                image->parts[i].fd = -EBADF;
        add_part(image, 0, first_path, TAKE_FD(fd));
        for (unsigned i = 1; i < image->layout.parts; i++) {
                _cleanup_free_ char *name = layout_part_name(i, suffix), *path = path_join(image->path, name);
                r = open_part_file(image, name, err);
                if (r < 0)
                        return r;
                add_part(image, i, path, r);
                r = check_part(image, i, err);
                if (r < 0)
                        return r;
        }
        image->format = image->codec->format;
        image->verified = true;
        return 0;
}

static int open_directory(struct image *image, struct st_error **err) {
        _cleanup_free_ char *first = NULL;
        if (faccessat(image->fd, IMAGE_MANIFEST, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
            faccessat(image->fd, "inventory.img", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                first = find_first(image);
        return first ? open_streams(image, first, err) : none_open(image, err);
}

/** Does a file begin as a native image does? */
static bool is_native(int fd) {
        uint8_t head[NATIVE_HEADER];
        ssize_t n = io_read_at(fd, head, sizeof(head), 0);
        return n > 0 && native_recognise(head, (size_t)n);
}

static int open_native(struct image *image, struct st_error **err) {
        image->format = image->manifest.format = IMAGE_NATIVE;
        image->verified = true;
        int r = native_open(image->path, image->fd, &image->native, err);
        if (r < 0)
                return r;
        if (image->native->index.n_files == 0)
                return st_error_set(err, EINVAL, "not a checkpoint: %s has no files", image->path);
        for (uint32_t i = 0; i < image->native->index.n_files; i++) {
                const struct native_file *file = &image->native->index.files[i];
                if (!path_is_name(file->name))
                        return st_error_set(err, EBADMSG,
                                            "%s is damaged: the name of its file %" PRIu32 " is not valid", image->path,
                                            i);
                if (file->size > TOTAL_MAX - image->manifest.total)
                        return image_damaged(image, file->name, "is too large", err);
                manifest_add(&image->manifest, file->name, file->size, (struct hash){ 0 });
        }
        return manifest_index(&image->manifest, err);
}

static int open_file(struct image *image, uint64_t size, struct st_error **err) {
        const struct codec *named = codec_by_suffix(image->path);
        if (is_native(image->fd))
                return open_native(image, err);
        image->codec = archive_recognise(image->fd);
        if (image->codec) {
                image->format = image->codec->format;
                return open_archive(image, err);
        }
        if (named)
                return size == 0 ? st_error_set(err, EBADMSG, "%s is damaged: it is empty", image->path)
                                 : st_error_set(err, EBADMSG, "%s is damaged: it does not begin as %s does",
                                                image->path, named->what);
        if (text_ends_with(image->path, NATIVE_SUFFIX))
                return st_error_set(err, EBADMSG, "%s is damaged: it %s", image->path,
                                    size == 0 ? "is empty" : "does not begin as a native image does");
        const char *what = size == 0 ? "empty" : guess(image->fd);
        return st_error_set(err, EINVAL, "not a checkpoint: %s is %s", image->path, what ? what : "of no known format");
}

static int open_once(const char *path, struct image **ret, struct st_error **err) {
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
                r = open_directory(image, err);
        else if (!S_ISREG(st.st_mode))
                r = st_error_set(err, EINVAL, "not a checkpoint: %s is neither a directory nor a regular file", path);
        else
                r = open_file(image, (uint64_t)st.st_size, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(image);
        return 0;
}

int image_open(const char *path, struct image **ret, struct st_error **err) {
        /* A native image may be exchanged for one that is as good, and needs less of others. */
        for (int i = 1;; i++) {
                struct st_error *error = NULL;
                int r = open_once(path, ret, &error);
                if (r >= 0 || r != -ESTALE || i == ATTEMPTS) {
                        if (r < 0)
                                st_error_move(err, error);
                        return r;
                }
                st_error_free(error);
        }
}
