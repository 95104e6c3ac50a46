/* SPDX-License-Identifier: Apache-2.0 */

/*
 * lz4, in the LZ4 frame format 1.6: one frame, whose blocks know nothing of each other and are encoded by several
 * threads (blocks.h). The footer is a skippable frame.
 */

#include <endian.h>
#include <errno.h>
#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/blocks.h"
#include "image/codec.h"

#define MAGIC UINT32_C(0x184D2204)

/** Of the frame, as its header says it. */
static const LZ4F_preferences_t preferences = {
        .frameInfo = {
                .blockSizeID = LZ4F_max256KB,
                .blockMode = LZ4F_blockIndependent,
                .contentChecksumFlag = LZ4F_contentChecksumEnabled,
        },
};

/** The same for blocks alone: the checksum is that of the whole content, and not known there. */
static const LZ4F_preferences_t block_preferences = {
        .frameInfo = { .blockSizeID = LZ4F_max256KB, .blockMode = LZ4F_blockIndependent },
        .autoFlush = 1, /* nothing is copied into a buffer of the library first, nor left there */
};

struct encoder {
        struct codec_encoding encoding;
        struct blocks_method method;
        struct blocks *blocks;
        XXH32_state_t *checksum; /* of the content; its seed is 0 */
};

static bool recognise(const uint8_t *head, size_t n) {
        uint32_t magic;
        if (n < sizeof(magic))
                return false;
        memcpy(&magic, head, sizeof(magic));
        return le32toh(magic) == MAGIC;
}

static void *state_new(void) {
        LZ4F_cctx *context;
        return LZ4F_isError(LZ4F_createCompressionContext(&context, LZ4F_VERSION)) ? NULL : context;
}

static void state_free(void *context) {
        LZ4F_freeCompressionContext(context);
}

/** Makes a frame, but only the blocks in it are wanted: the header is written over, the end never made. */
static int encode_block(void *context, struct block *block, struct st_error **err) {
        size_t room = LZ4F_compressBound(BLOCKS_SIZE, &block_preferences);
        size_t n = LZ4F_compressBegin(context, block->out, room, &block_preferences);
        if (!LZ4F_isError(n))
                n = LZ4F_compressUpdate(context, block->out, room, block->in, block->size, NULL);
        if (LZ4F_isError(n))
                return st_error_set(err, EIO, "compression failed: %s", LZ4F_getErrorName(n));
        block->made = n;
        return 0;
}

static int put(const struct encoder *encoder, const void *data, size_t length, struct st_error **err) {
        return encoder->encoding.put(encoder->encoding.userdata, data, length, err);
}

static int put_block(void *userdata, const struct block *block, struct st_error **err) {
        return put(userdata, block->out, block->made, err);
}

static void encoder_free(void *userdata) {
        struct encoder *encoder = userdata;
        if (!encoder)
                return;
        blocks_free(encoder->blocks);
        XXH32_freeState(encoder->checksum);
        free(encoder);
}

/** The header, as the library makes it. */
static int put_header(const struct encoder *encoder, struct st_error **err) {
        uint8_t header[LZ4F_HEADER_SIZE_MAX];
        LZ4F_cctx *context = state_new();
        if (!context)
                return st_error_errno(err, ENOMEM, "cannot compress");
        size_t n = LZ4F_compressBegin(context, header, sizeof(header), &preferences);
        state_free(context);
        if (LZ4F_isError(n))
                return st_error_set(err, EIO, "compression failed: %s", LZ4F_getErrorName(n));
        return put(encoder, header, n, err);
}

static int encoder_new(const struct codec_encoding *encoding, void **ret, struct st_error **err) {
        struct encoder *encoder = *ret = NEW(struct encoder);
        encoder->encoding = *encoding;
        encoder->method = (struct blocks_method){
                .room = LZ4F_compressBound(BLOCKS_SIZE, &block_preferences),
                .state_new = state_new,
                .state_free = state_free,
                .encode = encode_block,
        };
        encoder->checksum = XXH32_createState();
        if (!encoder->checksum)
                return st_error_errno(err, ENOMEM, "cannot compress");
        XXH32_reset(encoder->checksum, 0);
        int r = blocks_new(&encoder->method, encoding->size, encoding->threads, put_block, encoder, &encoder->blocks,
                           err);
        return r < 0 ? r : put_header(encoder, err);
}

static int encode(void *userdata, const void *data, size_t length, struct st_error **err) {
        struct encoder *encoder = userdata;
        if (length > 0)
                XXH32_update(encoder->checksum, data, length);
        return blocks_add(encoder->blocks, data, length, err);
}

/** The end of the frame: a block's length of 0, the content's checksum. */
static int finish(void *userdata, struct st_error **err) {
        struct encoder *encoder = userdata;
        const uint32_t end[] = { 0, htole32(XXH32_digest(encoder->checksum)) };
        int r = blocks_finish(encoder->blocks, err);
        return r < 0 ? r : put(encoder, end, sizeof(end), err);
}

struct decoder {
        LZ4F_dctx *context;
        bool checked;
        bool ended;
};

static int decoder_new(bool checked, void **ret) {
        struct decoder *decoder = NEW(struct decoder);
        decoder->checked = checked;
        decoder->ended = true;
        if (LZ4F_isError(LZ4F_createDecompressionContext(&decoder->context, LZ4F_VERSION))) {
                free(decoder);
                return -ENOMEM;
        }
        *ret = decoder;
        return 0;
}

static int decode(void *userdata, struct codec_io *io, struct st_error **err) {
        struct decoder *decoder = userdata;
        size_t in = io->in_size, out = io->out_size;
        LZ4F_decompressOptions_t options = { .skipChecksums = !decoder->checked };
        size_t r = LZ4F_decompress(decoder->context, io->out, &out, io->in, &in, &options);
        if (LZ4F_isError(r))
                return st_error_set(err, EBADMSG, "it does not decode: %s", LZ4F_getErrorName(r));
        if (r == 0)
                decoder->ended = true;
        else if (in > 0 || out > 0) /* asked without input at the end of a frame, it says what a new one would need */
                decoder->ended = false;
        io->in += in;
        io->in_size -= in;
        io->out += out;
        io->out_size -= out;
        io->ended = decoder->ended;
        return 0;
}

static void decoder_free(void *userdata) {
        struct decoder *decoder = userdata;
        if (!decoder)
                return;
        LZ4F_freeDecompressionContext(decoder->context);
        free(decoder);
}

const struct codec codec_lz4 = {
        .format = IMAGE_LZ4,
        .name = "lz4",
        .suffix = ".tar.lz4",
        .what = "lz4 data",
        .recognise = recognise,
        .encoder_new = encoder_new,
        .encode = encode,
        .finish = finish,
        .make_footer = codec_skippable_footer,
        .encoder_free = encoder_free,
        .decoder_new = decoder_new,
        .decode = decode,
        .decoder_free = decoder_free,
        .footer_size = SKIPPABLE_FOOTER,
        .payload_at = 8,
        .tail_is_known = true,
};
