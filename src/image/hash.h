/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* XXH3-128 (xxHash), the checksum of all formats: against damage, not against forgery. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash {
        uint64_t high, low;
};

/** Bytes of a hash as text, without a NUL: as `xxhsum -H2` prints it. */
#define HASH_TEXT 32

struct hasher;

struct hasher *hasher_new(void);
/** @return NULL */
struct hasher *hasher_free(struct hasher *hasher);
static inline void hasher_freep(struct hasher **hasher) {
        *hasher = hasher_free(*hasher);
}
void hasher_update(struct hasher *hasher, const void *data, size_t length);
/** The hash of all that was given since the start or the last hasher_finish(); starts anew. */
struct hash hasher_finish(struct hasher *hasher);

struct hash hash_of(const void *data, size_t length);

static inline bool hash_equal(struct hash a, struct hash b) {
        return a.high == b.high && a.low == b.low;
}

/** Writes HASH_TEXT hexadecimal digits in lower case and a NUL. */
void hash_to_text(struct hash hash, char text[HASH_TEXT + 1]);

/** Reads exactly HASH_TEXT digits in lower case. @return whether they are */
bool hash_from_text(const char *text, struct hash *ret);
