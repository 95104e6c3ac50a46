/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An archive, read in order: a tar, compressed or not (codec.h), with a footer when stasis wrote it. In one of ours the
 * manifest comes first, but for the further archives of a checkpoint in several streams.
 */

#include <stdbool.h>
#include <stdint.h>

#include <stasis/error.h>

#include "image/codec.h"
#include "image/manifest.h"
#include "image/tar.h"

struct archive;

/** Which codec's is the file, by its first bytes? NULL: none's. */
const struct codec *archive_recognise(int fd);

/**
 * Starts reading at the file's beginning; the position of fd is not used.
 *
 * @param path for messages, must outlive the archive, as must fd
 * @return 0; -EBADMSG: damaged; -errno
 */
int archive_open(const char *path, int fd, const struct codec *codec, struct archive **ret, struct st_error **err);

/** @return NULL */
struct archive *archive_free(struct archive *archive);
static inline void archive_freep(struct archive **archive) {
        *archive = archive_free(*archive);
}

/** Has it a footer, of the right length? Without one it is foreign: anybody may have packed it. */
bool archive_is_ours(const struct archive *archive);

/** Reads the first entry of one of ours, the manifest. @param ret zero-initialised; the caller's on success */
int archive_read_manifest(struct archive *archive, struct manifest *ret, struct st_error **err);

/** Goes to the next file, whatever it is. @return 1 with its name, valid until the next call, and size; 0: no more */
int archive_list(struct archive *archive, const char **ret_name, uint64_t *ret_size, struct st_error **err);

/** Goes to the next file, which must have this name and size. @return 0, -EBADMSG, -errno */
int archive_next(struct archive *archive, const char *name, uint64_t size, struct st_error **err);

/** Reads up to n bytes of the file. @return how many, 0 at its end, a negative errno with err */
ssize_t archive_read(struct archive *archive, void *buffer, size_t n, struct st_error **err);

/**
 * After the last file: nothing may follow, and the bytes of one of ours must be those that were written.
 *
 * @return 0, -EBADMSG, -errno
 */
int archive_end(struct archive *archive, struct st_error **err);
