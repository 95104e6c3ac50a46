/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The manifest of a checkpoint: what files it has, how long they are and what they hash to. Text, one line for each
 * file, in the order of the files in the archive:
 *
 *     stasis-manifest 1
 *     format zstd
 *     streams <number of archives> <bytes of a piece>     only of a checkpoint in several streams, see layout.h
 *     file <size> <XXH3-128> <name>
 *     end <XXH3-128 of all bytes before this line>
 */

#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

#include "image/hash.h"
#include "image/image.h"

/** Bounds of what is read. */
#define MANIFEST_TEXT_MAX ((size_t)16 << 20)
#define MANIFEST_FILES_MAX 1000000
#define MANIFEST_PIECE_MIN ((uint64_t)4096)

struct manifest_entry {
        char *name;
        uint64_t size; /* bytes, at most 2^60 */
        struct hash hash;
};

/** Zero-initialise; free with manifest_clear(). */
struct manifest {
        enum image_format format; /* that it was written as */
        unsigned streams;         /* 0: one file or directory */
        uint64_t piece;           /* with streams: bytes */
        struct manifest_entry *entries;
        size_t n, room;
        struct manifest_entry **by_name; /* sorted, made by manifest_index() */
        uint64_t total;                  /* bytes of all files */
};

/** Appends a file; the name is copied and must be one. */
void manifest_add(struct manifest *manifest, const char *name, uint64_t size, struct hash hash);

/** Makes manifest_find() work, after the last manifest_add(). @return 0, or -EEXIST with err for a double name */
int manifest_index(struct manifest *manifest, struct st_error **err);

/** @return NULL: there is no such file */
const struct manifest_entry *manifest_find(const struct manifest *manifest, const char *name);

/** @return malloc'ed text, NUL behind it */
char *manifest_to_text(const struct manifest *manifest, size_t *ret_size);

/**
 * Reads a manifest and checks its checksum; strict: exactly what manifest_to_text() writes is accepted.
 *
 * @param ret zero-initialised; indexed when the result is 0, else unchanged
 * @return 0; -EBADMSG: damaged or of another version
 */
int manifest_parse(const char *text, size_t size, struct manifest *ret, struct st_error **err);

void manifest_clear(struct manifest *manifest);
