/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Checkpoints on disk. Formats: `none` (a directory, which plain `criu restore` accepts too), `tar`, and the same
 * compressed (codec.h), which tar and the tool of the codec read. In streams, a checkpoint is a directory of several
 * such archives. These carry a manifest: length and XXH3-128 of each file, itself checksummed. And `image`, the native
 * image (docs/image-format.md), which has an index instead.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

#include "image/native_format.h"
#include "image/store.h"

enum image_format {
        IMAGE_NONE,
        IMAGE_TAR,
        IMAGE_GZIP,
        IMAGE_LZ4,
        IMAGE_ZLIB,
        IMAGE_ZSTD,
        IMAGE_NATIVE,
        IMAGE_FORMAT_COUNT,
};

/** All names, as the choices of an option. */
#define IMAGE_FORMATS "none|tar|gzip|lz4|zlib|zstd|image"

/** "none", "tar", …. @return 0, -EINVAL naming the formats there are */
int image_format_from_text(const char *text, enum image_format *ret, struct st_error **err);
const char *image_format_name(enum image_format format);
/** What a checkpoint's name ends with: "", ".tar.zst". One in several streams has no suffix. */
const char *image_format_suffix(enum image_format format);
/** By the end of a path's name: "x.tgz". @return false: it tells nothing */
bool image_format_from_path(const char *path, enum image_format *ret);
/** What names of archives can end with, for messages: ".tar.zst, .tar.lz4, …". malloc'ed */
char *image_known_suffixes(void);

/** Name of the manifest among the files of a checkpoint. */
#define IMAGE_MANIFEST "stasis.manifest"
/** Name of the saved state (JSON) among the files of a checkpoint. */
#define IMAGE_STATE "stasis.json"

/** A checkpoint cannot be in more streams than this. */
#define IMAGE_STREAMS_MAX 64

/** Can a checkpoint of this format be in so many streams? 0 and 1: one file. @return 0, -EINVAL with err */
int image_check_streams(enum image_format format, unsigned streams, struct st_error **err);

/** Is the name of a checkpoint free? @return 0; -EEXIST, other -errno, with err */
int image_check_absent(const char *path, struct st_error **err);

struct image_write {
        enum image_format format;
        unsigned streams;        /* 0, 1: one file; more: a directory of so many archives, written at the same time */
        const char *destination; /* final path, suffix included; must not exist */
        const char *partial;     /* the hidden path it is written to first, in the same directory */
        enum native_codec codec; /* of the frames of IMAGE_NATIVE */
        const char *parent;      /* a native image whose pages IMAGE_NATIVE refers to; NULL: none */
        unsigned threads;        /* that encode IMAGE_NATIVE; 0: as many as cores */
        bool in_place;           /* `none`: partial is there: made by partial_make(), with the files that are on disk */
        bool podman;             /* an archive as Podman has them (podman.h): without manifest and footer */
        uid_t uid;               /* owner; 0600 and 0700 */
        gid_t gid;
        int cancel_fd; /* polls readable: stop, remove the partial, -ECANCELED; -EBADF: none */
        void (*progress)(uint64_t done, uint64_t total, void *userdata); /* may be NULL */
        void *userdata;
};

/**
 * Writes a store as a checkpoint: encoded to `partial`, manifest, fsync, renamed to `destination` (never over something
 * that exists: -EEXIST), directory fsync'ed. On failure the partial is removed and nothing stands under the final name.
 * A native image uses up the store: it cannot be written a second time.
 */
int image_write(struct store *store, const struct image_write *options, struct st_error **err);

/**
 * Prepares image_write() of a native image, with the same options, before its store is filled: the parent is read, and
 * when the store's budget is spent, encoding begins, so that nothing is spilled. Other formats: does nothing. What was
 * made is removed by store_free() when image_write() is never called. What the options point to must outlive the store.
 */
int image_write_early(struct store *store, const struct image_write *options, struct st_error **err);

/** What image_write_early() knows of an image that is to be. */
struct image_early {
        uint8_t id[NATIVE_ID];
        const struct native *parent; /* open until the image is written, or the store freed; NULL: there is none */
};

/** All zero for a store of another format. */
void image_early(const struct store *store, struct image_early *ret);

/** The hidden path for a destination: DIR/.NAME.partial-ID; malloc'ed. */
char *image_partial_path(const char *destination, const char *id);

/** A checkpoint opened for reading. */
struct image;

/**
 * Opens a checkpoint: its format is recognised by content first, by extension second; the manifest is read and checked,
 * and the lengths of the files against it as far as that is cheap.
 *
 * Errors: -ENOENT; -EINVAL "not a checkpoint: …"; -EBADMSG "… is damaged: …" (truncated, checksum).
 * A directory or an archive without a manifest but with CRIU's inventory.img (made by plain CRIU and tar) is accepted:
 * image_verified() is false. Such an archive is decoded to its end here, to learn what is in it.
 */
int image_open(const char *path, struct image **ret, struct st_error **err);
struct image *image_free(struct image *image);
static inline void image_freep(struct image **image) {
        *image = image_free(*image);
}

/** Absolute, as it was opened; owned by the image. */
const char *image_path(const struct image *image);
/** Is a file other than on disk, by image_override()? */
bool image_is_overridden(const struct image *image);
enum image_format image_get_format(const struct image *image);
/** In how many streams it is: 0 when it is one file, or a directory of CRIU's files. */
unsigned image_streams(const struct image *image);
bool image_verified(const struct image *image);
/** Sum of the lengths of its files, bytes. */
uint64_t image_size(const struct image *image);
/** How many other images a native image needs, which hold pages of it: its ancestors, the parent first. Others: 0. */
size_t image_ancestor_count(const struct image *image);
/** Where one of them was found; owned by the image. */
const char *image_ancestor_path(const struct image *image, size_t index);

/** Reads one small file (≤ 16 MiB) of the checkpoint, verified; malloc'ed, NUL behind it. -ENOENT: there is none. */
int image_read(struct image *image, const char *name, char **ret, size_t *ret_size, struct st_error **err);

/**
 * Looks at a checkpoint without a manifest, made by plain CRIU: are its files whole, as far as CRIU's own lengths tell?
 * serve_start() does it, too.
 *
 * @return 0; -EBADMSG naming the file; -EOPNOTSUPP: it is incremental
 */
int image_check(struct image *image, struct st_error **err);

/**
 * Reads all files into an empty store, each checked; what surrounds them, too. Overrides are not looked at.
 *
 * @return 0; -EBADMSG naming the file; -ECANCELED by cancel_fd; -ENOSPC: the store is full
 */
int image_load(struct image *image, struct store *store, int cancel_fd, struct st_error **err);

/** Reads everything and checks it against the manifest. @return 0; -EBADMSG naming the file; -ECANCELED by cancel_fd */
int image_verify(struct image *image, int cancel_fd, struct st_error **err);

/** How many files it has; they are numbered from 0 in the order of the manifest, names are unique. Overrides count. */
size_t image_file_count(const struct image *image);
/** Name of a file, owned by the image. */
const char *image_file_name(const struct image *image, size_t index);
/** Length of a file, bytes. */
uint64_t image_file_size(const struct image *image, size_t index);

/**
 * Writes a file of any length to a descriptor, from its current position on, and checks its hash.
 *
 * @return 0; -ENOENT: there is no such file; -EBADMSG: damaged, what was written is not to be used; other -errno with
 * err
 */
int image_copy_to_fd(struct image *image, const char *name, int fd, struct st_error **err);

/**
 * Replaces a file of the checkpoint, or adds one, for image_read(), image_copy_to_fd() and serving from now on; the
 * checkpoint on disk stays as it is, and image_verify() checks that. Not after serve_start().
 *
 * @param data malloc'ed, NULL only with size 0; taken, also on failure
 * @return 0; -EINVAL: `name` is no file name
 */
int image_override(struct image *image, const char *name, void *data, size_t size, struct st_error **err);

/** Pages of memory in a row: of a file of pages, counted from 0. */
struct image_page_range {
        uint64_t first, count; /* pages of 4096 bytes; count at least 1 */
};

/**
 * From now on serving gives of a file of pages only these ranges, one after another: what is left of it when the rest
 * gets to its place in another way. Native images only; not after serve_start(). All else still gives the whole file.
 *
 * @param ranges ascending, not overlapping; copied
 * @return 0; -ENOENT: no such file of pages; -EINVAL: no such pages; -EOPNOTSUPP: not a native image
 */
int image_select_pages(struct image *image, const char *name, const struct image_page_range *ranges, size_t n,
                       struct st_error **err);
