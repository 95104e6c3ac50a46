/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Checkpoints on disk. Formats: `none` (a directory, which plain `criu restore` accepts too) and `zstd` (a .tar.zst
 * that tar and zstd read). Every format carries a manifest: length and XXH3-128 of each file, itself checksummed.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

#include "image/store.h"

enum image_format { IMAGE_NONE, IMAGE_ZSTD, IMAGE_FORMAT_COUNT };

/** "none", "zstd". @return 0, -EINVAL naming the formats there are */
int image_format_from_text(const char *text, enum image_format *ret, struct st_error **err);
const char *image_format_name(enum image_format format);
/** What a checkpoint's name ends with: "", ".tar.zst". */
const char *image_format_suffix(enum image_format format);

/** Name of the manifest among the files of a checkpoint. */
#define IMAGE_MANIFEST "stasis.manifest"
/** Name of the saved state (JSON) among the files of a checkpoint. */
#define IMAGE_STATE "stasis.json"

struct image_write {
        enum image_format format;
        const char *destination; /* final path, suffix included; must not exist */
        const char *partial;     /* the hidden path it is written to first, in the same directory */
        uid_t uid;               /* owner; 0600 and 0700 */
        gid_t gid;
        int cancel_fd; /* polls readable: stop, remove the partial, -ECANCELED; -EBADF: none */
        void (*progress)(uint64_t done, uint64_t total, void *userdata); /* may be NULL */
        void *userdata;
};

/**
 * Writes a store as a checkpoint: encoded to `partial`, manifest, fsync, renamed to `destination` (never over something
 * that exists: -EEXIST), directory fsync'ed. On failure the partial is removed and nothing stands under the final name.
 */
int image_write(struct store *store, const struct image_write *options, struct st_error **err);

/** The hidden path for a destination: DIR/.NAME.partial-ID; malloc'ed. */
char *image_partial_path(const char *destination, const char *id);

/** A checkpoint opened for reading. */
struct image;

/**
 * Opens a checkpoint: its format is recognised by content first, by extension second; the manifest is read and checked,
 * and the lengths of the files against it as far as that is cheap.
 *
 * Errors: -ENOENT; -EINVAL "not a checkpoint: …"; -EBADMSG "… is damaged: …" (truncated, checksum).
 * A directory without a manifest but with CRIU's inventory.img (made by plain CRIU) is accepted: image_verified() is
 * false.
 */
int image_open(const char *path, struct image **ret, struct st_error **err);
struct image *image_free(struct image *image);
static inline void image_freep(struct image **image) {
        *image = image_free(*image);
}

enum image_format image_get_format(const struct image *image);
bool image_verified(const struct image *image);
/** Sum of the lengths of its files, bytes. */
uint64_t image_size(const struct image *image);

/** Reads one small file (≤ 16 MiB) of the checkpoint, verified; malloc'ed, NUL behind it. -ENOENT: there is none. */
int image_read(struct image *image, const char *name, char **ret, size_t *ret_size, struct st_error **err);

/** Reads everything and checks it against the manifest. @return 0; -EBADMSG naming the file; -ECANCELED by cancel_fd */
int image_verify(struct image *image, int cancel_fd, struct st_error **err);
