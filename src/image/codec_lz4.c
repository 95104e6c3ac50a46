/* SPDX-License-Identifier: Apache-2.0 */

/* lz4, in the LZ4 frame format 1.6. The footer is a skippable frame. */

#include <endian.h>
#include <errno.h>
#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/codec.h"

#define MAGIC UINT32_C(0x184D2204)
/** One block at a time is encoded. */
#define INPUT_MAX ((size_t)256 << 10)

static const LZ4F_preferences_t preferences = {
        .frameInfo = {
                .blockSizeID = LZ4F_max256KB,
                .blockMode = LZ4F_blockIndependent,
                .contentChecksumFlag = LZ4F_contentChecksumEnabled,
        },
        .autoFlush = 1, /* nothing is copied into a buffer of the library first */
};

struct encoder {
        struct codec_encoding encoding;
        LZ4F_cctx *context;
        uint8_t *output;
        size_t room;
};

static bool recognise(const uint8_t *head, size_t n) {
        uint32_t magic;
        if (n < sizeof(magic))
                return false;
        memcpy(&magic, head, sizeof(magic));
        return le32toh(magic) == MAGIC;
}

static void encoder_free(void *userdata) {
        struct encoder *encoder = userdata;
        if (!encoder)
                return;
        LZ4F_freeCompressionContext(encoder->context);
        free(encoder->output);
        free(encoder);
}

/** Puts out what a function of the library made. */
static int put(struct encoder *encoder, size_t made, struct st_error **err) {
        if (LZ4F_isError(made))
                return st_error_set(err, EIO, "compression failed: %s", LZ4F_getErrorName(made));
        return made > 0 ? encoder->encoding.put(encoder->encoding.userdata, encoder->output, made, err) : 0;
}

static int encoder_new(const struct codec_encoding *encoding, void **ret, struct st_error **err) {
        struct encoder *encoder = *ret = NEW(struct encoder);
        encoder->encoding = *encoding;
        encoder->room = LZ4F_compressBound(INPUT_MAX, &preferences) + LZ4F_HEADER_SIZE_MAX;
        encoder->output = malloc(encoder->room);
        if (LZ4F_isError(LZ4F_createCompressionContext(&encoder->context, LZ4F_VERSION)) || !encoder->output)
                return st_error_errno(err, ENOMEM, "cannot compress");
        return put(encoder, LZ4F_compressBegin(encoder->context, encoder->output, encoder->room, &preferences), err);
}

static int encode(void *userdata, const void *data, size_t length, struct st_error **err) {
        struct encoder *encoder = userdata;
        for (size_t at = 0; at < length;) {
                size_t n = length - at < INPUT_MAX ? length - at : INPUT_MAX;
                int r = put(encoder,
                            LZ4F_compressUpdate(encoder->context, encoder->output, encoder->room,
                                                (const uint8_t *)data + at, n, NULL),
                            err);
                if (r < 0)
                        return r;
                at += n;
        }
        return 0;
}

static int finish(void *userdata, struct st_error **err) {
        struct encoder *encoder = userdata;
        return put(encoder, LZ4F_compressEnd(encoder->context, encoder->output, encoder->room, NULL), err);
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
