/* SPDX-License-Identifier: Apache-2.0 */
#include "image/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/memory.h"

struct hasher {
        XXH3_state_t *state;
};

struct hasher *hasher_new(void) {
        struct hasher *hasher = NEW(struct hasher);
        hasher->state = XXH3_createState(); /* wants an alignment that malloc does not promise */
        if (!hasher->state)
                abort();
        XXH3_128bits_reset(hasher->state);
        return hasher;
}

struct hasher *hasher_free(struct hasher *hasher) {
        if (!hasher)
                return NULL;
        XXH3_freeState(hasher->state);
        free(hasher);
        return NULL;
}

void hasher_update(struct hasher *hasher, const void *data, size_t length) {
        if (length > 0)
                XXH3_128bits_update(hasher->state, data, length);
}

struct hash hasher_finish(struct hasher *hasher) {
        XXH128_hash_t hash = XXH3_128bits_digest(hasher->state);
        XXH3_128bits_reset(hasher->state);
        return (struct hash){ .high = hash.high64, .low = hash.low64 };
}

struct hash hash_of(const void *data, size_t length) {
        XXH128_hash_t hash = XXH3_128bits(data, length);
        return (struct hash){ .high = hash.high64, .low = hash.low64 };
}

void hash_to_text(struct hash hash, char text[HASH_TEXT + 1]) {
        snprintf(text, HASH_TEXT + 1, "%016" PRIx64 "%016" PRIx64, hash.high, hash.low);
}

bool hash_from_text(const char *text, struct hash *ret) {
        uint64_t halves[2] = { 0, 0 };
        for (size_t i = 0; i < HASH_TEXT; i++) {
                uint64_t digit;
                if (text[i] >= '0' && text[i] <= '9')
                        digit = (uint64_t)(text[i] - '0');
                else if (text[i] >= 'a' && text[i] <= 'f')
                        digit = (uint64_t)(text[i] - 'a') + 10;
                else
                        return false;
                halves[i / 16] = halves[i / 16] << 4 | digit;
        }
        *ret = (struct hash){ .high = halves[0], .low = halves[1] };
        return true;
}
