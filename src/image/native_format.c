/* SPDX-License-Identifier: Apache-2.0 */

/* Header, footer and digests of the native image. The index: native_index.c; frames: native_coder.c. */

#include "image/native_format.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "image/native_bytes.h"

#define VERSION_MINOR 0
/** Where the digest of a header, a footer is: it covers all before it. */
#define HEADER_DIGEST 48
#define FOOTER_DIGEST 112
/** What the smallest index has: its counts. */
#define INDEX_MIN 16

static const uint8_t header_magic[8] = { 0x89, 'S', 'T', 'A', 'S', 'I', 'S', '\n' };
static const uint8_t footer_magic[8] = { 0x89, 'S', 'T', 'A', 'S', 'I', 'S', 'F' };
static const uint8_t zeros[NATIVE_ID];

void native_put_digest(uint8_t bytes[16], struct hash hash) {
        const uint64_t halves[2] = { htobe64(hash.high), htobe64(hash.low) };
        memcpy(bytes, halves, sizeof(halves));
}

struct hash native_get_digest(const uint8_t bytes[16]) {
        uint64_t halves[2];
        memcpy(halves, bytes, sizeof(halves));
        return (struct hash){ .high = be64toh(halves[0]), .low = be64toh(halves[1]) };
}

struct hash native_page_digest(const uint8_t page[NATIVE_PAGE], uint64_t seed) {
        XXH128_hash_t hash = XXH3_128bits_withSeed(page, NATIVE_PAGE, seed);
        return (struct hash){ .high = hash.high64, .low = hash.low64 };
}

bool native_page_is_zero(const uint8_t page[NATIVE_PAGE]) {
        /* Nearly all pages that are not zero are told by the first piece. */
        uint64_t piece[8], any = 0;
        for (size_t at = 0; at < NATIVE_PAGE && any == 0; at += sizeof(piece)) {
                memcpy(piece, page + at, sizeof(piece));
                any = piece[0] | piece[1] | piece[2] | piece[3] | piece[4] | piece[5] | piece[6] | piece[7];
        }
        return any == 0;
}

bool native_recognise(const uint8_t *head, size_t n) {
        return n >= sizeof(header_magic) && memcmp(head, header_magic, sizeof(header_magic)) == 0;
}

void native_header_make(const struct native_header *header, uint8_t bytes[NATIVE_HEADER]) {
        memset(bytes, 0, NATIVE_HEADER);
        memcpy(bytes, header_magic, sizeof(header_magic));
        native_put16(bytes + 8, NATIVE_VERSION);
        native_put16(bytes + 10, VERSION_MINOR);
        native_put32(bytes + 12, (uint32_t)NATIVE_HEADER);
        memcpy(bytes + 16, header->id, NATIVE_ID);
        native_put64(bytes + 32, header->seed);
        native_put_digest(bytes + HEADER_DIGEST, hash_of(bytes, HEADER_DIGEST));
}

/** What header and footer begin with alike, and their digest. */
static int check_block(const uint8_t *bytes, const char *what, const uint8_t magic[8], size_t size, size_t digest_at,
                       struct st_error **err) {
        if (memcmp(bytes, magic, 8) != 0)
                return st_error_set(err, EBADMSG, "it has no %s", what);
        if (native_get16(bytes + 8) != NATIVE_VERSION) {
                st_error_set(err, EOPNOTSUPP, "it is of version %u of the format, not %u", native_get16(bytes + 8),
                             NATIVE_VERSION);
                st_error_hint(err, "use a stasis that knows this version");
                return -EOPNOTSUPP;
        }
        if (!hash_equal(native_get_digest(bytes + digest_at), hash_of(bytes, digest_at)))
                return st_error_set(err, EBADMSG, "the checksum of its %s is wrong", what);
        if (native_get32(bytes + 12) != size)
                return st_error_set(err, EBADMSG, "its %s has a wrong size", what);
        return 0;
}

int native_header_parse(const uint8_t bytes[NATIVE_HEADER], struct native_header *ret, struct st_error **err) {
        int r = check_block(bytes, "header", header_magic, NATIVE_HEADER, HEADER_DIGEST, err);
        if (r < 0)
                return r;
        if (memcmp(bytes + 16, zeros, NATIVE_ID) == 0 || native_get64(bytes + 40) != 0)
                return st_error_set(err, EBADMSG, "its header is not valid");
        *ret = (struct native_header){ .seed = native_get64(bytes + 32) };
        memcpy(ret->id, bytes + 16, NATIVE_ID);
        return 0;
}

void native_footer_make(const struct native_footer *footer, uint8_t bytes[NATIVE_FOOTER]) {
        memset(bytes, 0, NATIVE_FOOTER);
        memcpy(bytes, footer_magic, sizeof(footer_magic));
        native_put16(bytes + 8, NATIVE_VERSION);
        native_put16(bytes + 10, VERSION_MINOR);
        native_put32(bytes + 12, (uint32_t)NATIVE_FOOTER);
        native_put64(bytes + 16, footer->size);
        native_put64(bytes + 24, footer->digests_at);
        native_put64(bytes + 32, footer->index_at);
        native_put64(bytes + 40, footer->index_stored);
        native_put64(bytes + 48, footer->index_decoded);
        bytes[56] = footer->index_codec;
        native_put_digest(bytes + 64, footer->digests);
        native_put_digest(bytes + 80, footer->index);
        memcpy(bytes + 96, footer->id, NATIVE_ID);
        native_put_digest(bytes + FOOTER_DIGEST, hash_of(bytes, FOOTER_DIGEST));
}

/** Does each section begin where the one before ends? */
static bool sections_fit(const struct native_footer *footer) {
        return footer->size >= NATIVE_HEADER + NATIVE_FOOTER && footer->digests_at >= NATIVE_HEADER &&
               footer->digests_at <= footer->index_at && (footer->index_at - footer->digests_at) % 16 == 0 &&
               footer->index_at <= footer->size - NATIVE_FOOTER &&
               footer->index_stored == footer->size - NATIVE_FOOTER - footer->index_at;
}

static bool index_sizes_fit(const struct native_footer *footer) {
        if (footer->index_decoded < INDEX_MIN || footer->index_decoded > NATIVE_INDEX_MAX || footer->index_stored == 0)
                return false;
        if (footer->index_codec == NATIVE_RAW)
                return footer->index_stored == footer->index_decoded;
        return footer->index_codec == NATIVE_ZSTD && footer->index_stored < footer->index_decoded;
}

int native_footer_parse(const uint8_t bytes[NATIVE_FOOTER], uint64_t size, struct native_footer *ret,
                        struct st_error **err) {
        int r = check_block(bytes, "footer", footer_magic, NATIVE_FOOTER, FOOTER_DIGEST, err);
        if (r < 0)
                return r;
        struct native_footer footer = {
                .size = native_get64(bytes + 16),
                .digests_at = native_get64(bytes + 24),
                .index_at = native_get64(bytes + 32),
                .index_stored = native_get64(bytes + 40),
                .index_decoded = native_get64(bytes + 48),
                .index_codec = bytes[56],
                .digests = native_get_digest(bytes + 64),
                .index = native_get_digest(bytes + 80),
        };
        memcpy(footer.id, bytes + 96, NATIVE_ID);
        if (footer.size != size)
                return st_error_set(err, EBADMSG, "it has %llu bytes, not %llu", (unsigned long long)size,
                                    (unsigned long long)footer.size);
        if (!sections_fit(&footer) || !index_sizes_fit(&footer) || memcmp(bytes + 57, zeros, 7) != 0 ||
            memcmp(footer.id, zeros, NATIVE_ID) == 0)
                return st_error_set(err, EBADMSG, "its footer is not valid");
        *ret = footer;
        return 0;
}
