/* SPDX-License-Identifier: Apache-2.0 */
#include "image/codec.h"

#include <endian.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"

/* zlib comes last: two bytes tell little. */
static const struct codec *const codecs[] = { &codec_zstd, &codec_lz4, &codec_gzip, &codec_tar, &codec_zlib };

#define FOOTER_NAME "stasis 1"
/** The first of 16 magic numbers of skippable frames (RFC 8878, 3.1.2; LZ4 frame format); ours is the sixth. */
#define FOOTER_MAGIC (UINT32_C(0x184D2A50) + 5)

struct payload {
        char name[8];
        uint64_t length, high, low;
};
_Static_assert(sizeof(struct payload) == FOOTER_PAYLOAD, "the payload has no holes");

const struct codec *codec_of(enum image_format format) {
        for (size_t i = 0; i < ELEMENTSOF(codecs); i++)
                if (codecs[i]->format == format)
                        return codecs[i];
        return NULL;
}

const struct codec *codec_recognise(const uint8_t *head, size_t n) {
        for (size_t i = 0; i < ELEMENTSOF(codecs); i++)
                if (codecs[i]->recognise(head, n))
                        return codecs[i];
        return NULL;
}

/** Suffixes besides those of the codecs themselves. */
static const struct {
        const char *suffix;
        const struct codec *codec;
} others[] = { { ".tgz", &codec_gzip }, { ".tzst", &codec_zstd } };

const struct codec *codec_by_suffix(const char *path) {
        for (size_t i = 0; i < ELEMENTSOF(codecs); i++)
                if (text_ends_with(path, codecs[i]->suffix))
                        return codecs[i];
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                if (text_ends_with(path, others[i].suffix))
                        return others[i].codec;
        return NULL;
}

char *codec_known_suffixes(void) {
        _cleanup_strv_ struct strv list = { 0 };
        for (size_t i = 0; i < ELEMENTSOF(codecs); i++)
                strv_add(&list, codecs[i]->suffix);
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                strv_add(&list, others[i].suffix);
        return strv_join(&list, ", ");
}

void footer_make(uint8_t bytes[FOOTER_PAYLOAD], uint64_t length, struct hash hash) {
        struct payload payload = {
                .length = htole64(length),
                .high = htole64(hash.high),
                .low = htole64(hash.low),
        };
        memcpy(payload.name, FOOTER_NAME, sizeof(payload.name));
        memcpy(bytes, &payload, sizeof(payload));
}

bool footer_parse(const struct codec *codec, const uint8_t *footer, uint64_t size, struct hash *ret) {
        struct payload payload;
        uint8_t expected[FOOTER_MAX];
        memcpy(&payload, footer + codec->payload_at, sizeof(payload));
        if (memcmp(payload.name, FOOTER_NAME, sizeof(payload.name)) != 0 || size < codec->footer_size ||
            le64toh(payload.length) != size - codec->footer_size)
                return false;
        codec->make_footer(NULL, footer + codec->payload_at, expected);
        size_t known = codec->tail_is_known ? codec->footer_size : codec->payload_at + FOOTER_PAYLOAD;
        if (memcmp(footer, expected, known) != 0)
                return false;
        *ret = (struct hash){ .high = le64toh(payload.high), .low = le64toh(payload.low) };
        return true;
}

void codec_skippable_footer(void *encoder, const uint8_t payload[FOOTER_PAYLOAD], uint8_t *footer) {
        const uint32_t head[] = { htole32(FOOTER_MAGIC), htole32((uint32_t)FOOTER_PAYLOAD) };
        (void)encoder;
        memcpy(footer, head, sizeof(head));
        memcpy(footer + sizeof(head), payload, FOOTER_PAYLOAD);
}
