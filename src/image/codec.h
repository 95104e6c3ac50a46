/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How the bytes of an archive are compressed: one row for each format (codec.c). A codec knows nothing of tar.
 *
 * Behind the last bytes of an archive of ours stands a footer, in a way that the format's own tools pass over silently:
 * the length of all before it and its XXH3-128. So a truncated file is noticed without reading it, and a flipped bit
 * even where no decoder looks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

#include "image/hash.h"
#include "image/image.h"

/** What a footer says: "stasis 1", length and XXH3-128 (high, low) of all bytes before the footer; little-endian. */
#define FOOTER_PAYLOAD ((size_t)32)
/** Bytes of the longest footer. */
#define FOOTER_MAX ((size_t)64)
/** How much of the beginning of a file tells what it is, bytes. */
#define CODEC_HEAD ((size_t)512)

/** Takes encoded bytes. @return 0 or a negative errno with err, which ends the encoding */
typedef int (*codec_put)(void *userdata, const void *data, size_t length, struct st_error **err);

struct codec_encoding {
        uint64_t size;    /* bytes that will be encoded, the tail excluded */
        unsigned threads; /* it may use, beside the caller's */
        codec_put put;
        void *userdata;
};

/** What a decoder takes from and puts to; it moves pointers and sizes along. */
struct codec_io {
        const uint8_t *in;
        size_t in_size;
        uint8_t *out;
        size_t out_size;
        bool ended; /* set by the decoder: the input may end here, nothing is left to come out */
};

/** A format of archives. All functions are called by one thread at a time for one encoder or decoder. */
struct codec {
        enum image_format format;
        const char *name;   /* as in --compression */
        const char *suffix; /* of file names */
        const char *what;   /* "zstd data" */

        /** Does a file begin with these bytes (n ≤ CODEC_HEAD)? */
        bool (*recognise)(const uint8_t *head, size_t n);

        /** The caller frees *ret with encoder_free, which takes NULL. */
        int (*encoder_new)(const struct codec_encoding *encoding, void **ret, struct st_error **err);
        int (*encode)(void *encoder, const void *data, size_t length, struct st_error **err);
        /** Puts out all that is left, and what belongs before the footer. */
        int (*finish)(void *encoder, struct st_error **err);
        /** Makes the footer, of footer_size bytes, after finish. */
        void (*make_footer)(void *encoder, const uint8_t payload[FOOTER_PAYLOAD], uint8_t *footer);
        void (*encoder_free)(void *encoder);

        /** @param checked false: the format's own checksums need not be looked at, all is hashed elsewhere */
        int (*decoder_new)(bool checked, void **ret);
        /** Decodes what it can. @return 0, or -EBADMSG with err */
        int (*decode)(void *decoder, struct codec_io *io, struct st_error **err);
        void (*decoder_free)(void *decoder);

        /* The footer: its bytes, where the payload is in them. Before and behind it stands what make_footer says. */
        size_t footer_size, payload_at;
        bool inside;        /* the payload is part of what is decoded: the last of the archive's bytes */
        bool tail_is_known; /* nothing behind the payload depends on the content */
};

/** The row of a format; NULL: it has none (IMAGE_NONE). */
const struct codec *codec_of(enum image_format format);

/** By the first bytes of a file; NULL: no codec's. */
const struct codec *codec_recognise(const uint8_t *head, size_t n);

/** By the end of a file's name; NULL: none's. */
const struct codec *codec_by_suffix(const char *path);

/** All of them: ".tar.zst, .tar.lz4, …". malloc'ed */
char *codec_known_suffixes(void);

/** Fills a payload. */
void footer_make(uint8_t bytes[FOOTER_PAYLOAD], uint64_t length, struct hash hash);

/**
 * Reads the footer of a file of `size` bytes from its last codec->footer_size ones.
 *
 * @return is it one, and of that length?
 */
bool footer_parse(const struct codec *codec, const uint8_t *footer, uint64_t size, struct hash *ret);

extern const struct codec codec_tar, codec_gzip, codec_lz4, codec_zlib, codec_zstd;

/** The footer of zstd and lz4: a skippable frame, which both formats have in common. */
#define SKIPPABLE_FOOTER (8 + FOOTER_PAYLOAD)
void codec_skippable_footer(void *encoder, const uint8_t payload[FOOTER_PAYLOAD], uint8_t *footer);
