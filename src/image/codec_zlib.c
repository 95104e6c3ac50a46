/* SPDX-License-Identifier: Apache-2.0 */

/*
 * gzip (RFC 1952) and zlib (RFC 1950), by the library zlib: one member, or stream, of deflate's data (RFC 1951) that
 * several threads make in pieces (blocks.h). Each piece ends at a byte's boundary and may refer to what is before it,
 * so that they can be joined, and are hardly larger than if made as one.
 *
 * The footer of gzip is a second member, empty, with the payload in an extra field. zlib knows neither members nor
 * fields, and its tools complain of whatever follows: there the payload is the end of the archive's own padding, in a
 * last block that is stored and not compressed, so that it stands at a fixed distance from the end.
 */

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/blocks.h"
#include "image/codec.h"
#include "image/tar.h"

/** Level 6, the tools' default, takes four times as long for a few per cent. */
#define LEVEL 1
/** windowBits of zlib.h: 15 for the largest window; 16 more for gzip's framing; negative: no framing. */
#define ZLIB_WINDOW 15
#define GZIP_WINDOW (15 + 16)
#define RAW_WINDOW (-15)
/** How far back deflate can refer. */
#define WINDOW_SIZE ((size_t)32 << 10)
/** What does not compress is stored, which costs a few bytes for each 16 KiB or more; this is ample. */
#define ROOM (BLOCKS_SIZE + BLOCKS_SIZE / 8)
/** zlib counts in 32 bits. */
#define INPUT_MAX ((size_t)1 << 30)

#define ADLER_SIZE 4
/** An empty gzip member with an extra field of one subfield: header 10, lengths 2 + 4, payload, block 2, trailer 8. */
#define GZIP_FOOTER (10 + 2 + 4 + FOOTER_PAYLOAD + 2 + 8)

struct encoder {
        struct codec_encoding encoding;
        struct blocks *blocks;
        uLong (*combine)(uLong before, uLong after, z_off_t length_after); /* checksums */
        uLong checksum;                                                    /* of what was put out */
        uint64_t size;                                                     /* of that, before it was encoded */
};

static void *state_new(void) {
        z_stream *stream = NEW(z_stream);
        if (deflateInit2(stream, LEVEL, Z_DEFLATED, RAW_WINDOW, 9, Z_DEFAULT_STRATEGY) == Z_OK)
                return stream;
        free(stream);
        return NULL;
}

static void state_free(void *stream) {
        deflateEnd(stream);
        free(stream);
}

static int deflate_block(z_stream *stream, struct block *block, struct st_error **err) {
        deflateReset(stream);
        if (block->before > 0)
                deflateSetDictionary(stream, block->in - block->before, (uInt)block->before);
        stream->next_in = (Bytef *)block->in; /* which it does not write to: zlib.h has it const only with ZLIB_CONST */
        stream->avail_in = (uInt)block->size;
        stream->next_out = block->out;
        stream->avail_out = ROOM;
        int state = deflate(stream, Z_SYNC_FLUSH);
        if (state != Z_OK || stream->avail_in > 0 || stream->avail_out == 0)
                return st_error_set(err, EIO, "compression failed: zlib says %d", state);
        block->made = ROOM - stream->avail_out;
        return 0;
}

static int gzip_block(void *stream, struct block *block, struct st_error **err) {
        block->checksum = (uint32_t)crc32(0, block->in, (uInt)block->size);
        return deflate_block(stream, block, err);
}

static int zlib_block(void *stream, struct block *block, struct st_error **err) {
        block->checksum = (uint32_t)adler32(1, block->in, (uInt)block->size);
        return deflate_block(stream, block, err);
}

static int put(const struct encoder *encoder, const void *data, size_t length, struct st_error **err) {
        return encoder->encoding.put(encoder->encoding.userdata, data, length, err);
}

static int put_block(void *userdata, const struct block *block, struct st_error **err) {
        struct encoder *encoder = userdata;
        encoder->checksum = encoder->combine(encoder->checksum, block->checksum, (z_off_t)block->size);
        encoder->size += block->size;
        return put(encoder, block->out, block->made, err);
}

static void encoder_free(void *userdata) {
        struct encoder *encoder = userdata;
        if (!encoder)
                return;
        blocks_free(encoder->blocks);
        free(encoder);
}

static int encoder_begin(struct encoder *encoder, const struct blocks_method *method, struct st_error **err) {
        const struct codec_encoding *encoding = &encoder->encoding;
        return blocks_new(method, encoding->size, encoding->threads, put_block, encoder, &encoder->blocks, err);
}

static int gzip_encoder_new(const struct codec_encoding *encoding, void **ret, struct st_error **err) {
        static const struct blocks_method method = { WINDOW_SIZE, ROOM, state_new, state_free, gzip_block };
        /* No flags, no time; the fastest level; Unix. */
        static const uint8_t header[] = { 0x1f, 0x8b, Z_DEFLATED, 0, 0, 0, 0, 0, 4, 3 };
        struct encoder *encoder = *ret = NEW(struct encoder);
        *encoder = (struct encoder){ .encoding = *encoding, .combine = crc32_combine, .checksum = crc32(0, NULL, 0) };
        int r = encoder_begin(encoder, &method, err);
        return r < 0 ? r : put(encoder, header, sizeof(header), err);
}

static int zlib_encoder_new(const struct codec_encoding *encoding, void **ret, struct st_error **err) {
        static const struct blocks_method method = { WINDOW_SIZE, ROOM, state_new, state_free, zlib_block };
        static const uint8_t header[] = { 0x78, 1 }; /* the largest window, the fastest level */
        struct encoder *encoder = *ret = NEW(struct encoder);
        *encoder =
                (struct encoder){ .encoding = *encoding, .combine = adler32_combine, .checksum = adler32(0, NULL, 0) };
        int r = encoder_begin(encoder, &method, err);
        return r < 0 ? r : put(encoder, header, sizeof(header), err);
}

static int encode(void *userdata, const void *data, size_t length, struct st_error **err) {
        struct encoder *encoder = userdata;
        return blocks_add(encoder->blocks, data, length, err);
}

/** The last piece: an empty block (RFC 1951, 3.2.6); then CRC and length of all. */
static int gzip_finish(void *userdata, struct st_error **err) {
        struct encoder *encoder = userdata;
        int r = blocks_finish(encoder->blocks, err);
        if (r < 0)
                return r;
        uint8_t end[] = { 3, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
        const uint32_t trailer[] = { htole32((uint32_t)encoder->checksum), htole32((uint32_t)encoder->size) };
        memcpy(end + 2, trailer, sizeof(trailer));
        return put(encoder, end, sizeof(end), err);
}

/** The last block, stored (RFC 1951, 3.2.4), and in it a block of tar's zeros, all but the payload. */
static int zlib_finish(void *userdata, struct st_error **err) {
        struct encoder *encoder = userdata;
        uint8_t bytes[5 + TAR_BLOCK - FOOTER_PAYLOAD] = {
                1, TAR_BLOCK & 0xff, TAR_BLOCK >> 8, ~TAR_BLOCK & 0xff, ~TAR_BLOCK >> 8 & 0xff,
        };
        int r = blocks_finish(encoder->blocks, err);
        return r < 0 ? r : put(encoder, bytes, sizeof(bytes), err);
}

static void gzip_footer(void *encoder, const uint8_t payload[FOOTER_PAYLOAD], uint8_t *footer) {
        static const uint8_t head[] = { 0x1f, 0x8b, Z_DEFLATED, 4 /* FEXTRA */, 0, 0, 0, 0, 0, 255, 4 + FOOTER_PAYLOAD,
                                        0,    'S',  'T',        FOOTER_PAYLOAD, 0 };
        (void)encoder;
        memset(footer, 0, GZIP_FOOTER);
        memcpy(footer, head, sizeof(head));
        memcpy(footer + sizeof(head), payload, FOOTER_PAYLOAD);
        footer[sizeof(head) + FOOTER_PAYLOAD] = 3; /* the end of an empty block, then CRC and length of nothing */
}

static void zlib_footer(void *userdata, const uint8_t payload[FOOTER_PAYLOAD], uint8_t *footer) {
        static const uint8_t zeros[TAR_BLOCK - FOOTER_PAYLOAD];
        const struct encoder *encoder = userdata;
        memcpy(footer, payload, FOOTER_PAYLOAD);
        if (!encoder)
                return;
        uLong sum = adler32(encoder->checksum, zeros, sizeof(zeros));
        sum = adler32(sum, payload, FOOTER_PAYLOAD);
        for (size_t i = 0; i < ADLER_SIZE; i++)
                footer[FOOTER_PAYLOAD + i] = (uint8_t)(sum >> (24 - 8 * i));
}

struct decoder {
        z_stream stream;
        bool members; /* gzip: another one may follow */
        bool ended;
};

static void decoder_free(void *userdata) {
        struct decoder *decoder = userdata;
        if (!decoder)
                return;
        inflateEnd(&decoder->stream);
        free(decoder);
}

static int decoder_begin(int window, void **ret) {
        struct decoder *decoder = NEW(struct decoder);
        decoder->members = window == GZIP_WINDOW;
        if (inflateInit2(&decoder->stream, window) != Z_OK) {
                free(decoder);
                return -ENOMEM;
        }
        *ret = decoder;
        return 0;
}

static int gzip_decoder_new(bool checked, void **ret) {
        (void)checked; /* zlib always looks */
        return decoder_begin(GZIP_WINDOW, ret);
}

static int zlib_decoder_new(bool checked, void **ret) {
        (void)checked;
        return decoder_begin(ZLIB_WINDOW, ret);
}

static int decode(void *userdata, struct codec_io *io, struct st_error **err) {
        struct decoder *decoder = userdata;
        z_stream *stream = &decoder->stream;
        if (decoder->ended && io->in_size > 0) {
                if (!decoder->members)
                        return st_error_set(err, EBADMSG, "something follows its end");
                inflateReset(stream);
                decoder->ended = false;
        }
        size_t in = io->in_size < INPUT_MAX ? io->in_size : INPUT_MAX;
        size_t out = io->out_size < INPUT_MAX ? io->out_size : INPUT_MAX;
        stream->next_in = (Bytef *)io->in;
        stream->avail_in = (uInt)in;
        stream->next_out = io->out;
        stream->avail_out = (uInt)out;
        int state = decoder->ended ? Z_STREAM_END : inflate(stream, Z_NO_FLUSH);
        if (state != Z_OK && state != Z_STREAM_END && state != Z_BUF_ERROR)
                return st_error_set(err, state == Z_MEM_ERROR ? ENOMEM : EBADMSG, "it does not decode: %s",
                                    stream->msg ? stream->msg : "not zlib's format");
        io->in += in - stream->avail_in;
        io->in_size -= in - stream->avail_in;
        io->out += out - stream->avail_out;
        io->out_size -= out - stream->avail_out;
        io->ended = decoder->ended = state == Z_STREAM_END;
        return 0;
}

static bool gzip_recognise(const uint8_t *head, size_t n) {
        return n >= 3 && head[0] == 0x1f && head[1] == 0x8b && head[2] == Z_DEFLATED;
}

/** Deflate, the largest window, no dictionary, a right check of the header (RFC 1950, 2.2). */
static bool zlib_recognise(const uint8_t *head, size_t n) {
        return n >= 2 && head[0] == 0x78 && (head[1] & 0x20) == 0 && (head[0] << 8 | head[1]) % 31 == 0;
}

const struct codec codec_gzip = {
        .format = IMAGE_GZIP,
        .name = "gzip",
        .suffix = ".tar.gz",
        .what = "gzip data",
        .recognise = gzip_recognise,
        .encoder_new = gzip_encoder_new,
        .encode = encode,
        .finish = gzip_finish,
        .make_footer = gzip_footer,
        .encoder_free = encoder_free,
        .decoder_new = gzip_decoder_new,
        .decode = decode,
        .decoder_free = decoder_free,
        .footer_size = GZIP_FOOTER,
        .payload_at = 16,
        .tail_is_known = true,
};

const struct codec codec_zlib = {
        .format = IMAGE_ZLIB,
        .name = "zlib",
        .suffix = ".tar.zlib",
        .what = "zlib data",
        .recognise = zlib_recognise,
        .encoder_new = zlib_encoder_new,
        .encode = encode,
        .finish = zlib_finish,
        .make_footer = zlib_footer,
        .encoder_free = encoder_free,
        .decoder_new = zlib_decoder_new,
        .decode = decode,
        .decoder_free = decoder_free,
        .footer_size = FOOTER_PAYLOAD + ADLER_SIZE,
        .inside = true,
};
