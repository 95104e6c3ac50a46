/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A .tar.zst checkpoint, read in order: a zstd frame (RFC 8878) with a tar archive inside, and behind it a skippable
 * frame, which zstd and tar pass over, with the length and the hash of the compressed bytes: a truncated file is
 * noticed without reading it, and a flipped bit even where the decoder does not look.
 */

#include <stdbool.h>
#include <stdint.h>

#include <stasis/error.h>

#include "image/hash.h"
#include "image/manifest.h"
#include "image/tar.h"

/** The frame at the end: magic, size, "stasis 1", length and XXH3-128 (high, low) of all before it; little-endian. */
#define ARCHIVE_FOOTER 40

/** Fills a footer. */
void archive_make_footer(uint8_t bytes[ARCHIVE_FOOTER], uint64_t length, struct hash hash);

struct archive;

/** Does the file begin with zstd's magic number? */
bool archive_recognise(int fd);

/**
 * Starts reading at the file's beginning; the position of fd is not used. The manifest, which is the first entry, is
 * read at once.
 *
 * @param path for messages
 * @param fd must outlive the archive
 * @param checked hash the compressed bytes too, for archive_end()
 * @param ret_manifest zero-initialised; the caller's when the result is 0
 * @return 0; -EINVAL: no checkpoint; -EBADMSG: damaged
 */
int archive_open(const char *path, int fd, bool checked, struct archive **ret, struct manifest *ret_manifest,
                 struct st_error **err);

/** @return NULL */
struct archive *archive_free(struct archive *archive);
static inline void archive_freep(struct archive **archive) {
        *archive = archive_free(*archive);
}

/**
 * Goes to the next file, in the order of the manifest, and checks that name and size are those of the manifest.
 *
 * @return 1 with its entry of the manifest; 0 after the last; -EBADMSG; -errno
 */
int archive_next(struct archive *archive, const struct manifest *manifest, const struct manifest_entry **ret,
                 struct st_error **err);

/** Reads up to n bytes of the file. @return how many, 0 at its end, a negative errno with err */
ssize_t archive_read(struct archive *archive, void *buffer, size_t n, struct st_error **err);

/** After archive_next() said 0, of an archive opened `checked`: are the compressed bytes those that were written? */
int archive_end(struct archive *archive, struct st_error **err);
