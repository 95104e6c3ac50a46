/* SPDX-License-Identifier: Apache-2.0 */

/* zstd (RFC 8878). The footer is a skippable frame. */

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#define ZSTD_STATIC_LINKING_ONLY /* for the name of one parameter, which older libraries refuse, see decoder_new() */
#include <zstd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/codec.h"

/** Level 3 is not smaller by more than 1 %, and takes a third longer. */
#define LEVEL 1
#define WORKERS_MAX 64
#define OUTPUT_SIZE ((size_t)1 << 20)
/** Frames that want more memory to decode are not ours: level 1 asks for 512 KiB. */
#define WINDOW_LOG_MAX 27

struct encoder {
        struct codec_encoding encoding;
        ZSTD_CCtx *context;
        uint8_t *output;
};

static bool recognise(const uint8_t *head, size_t n) {
        uint32_t magic;
        if (n < sizeof(magic))
                return false;
        memcpy(&magic, head, sizeof(magic));
        return le32toh(magic) == ZSTD_MAGICNUMBER;
}

static void encoder_free(void *userdata) {
        struct encoder *encoder = userdata;
        if (!encoder)
                return;
        ZSTD_freeCCtx(encoder->context);
        free(encoder->output);
        free(encoder);
}

static int encoder_new(const struct codec_encoding *encoding, void **ret, struct st_error **err) {
        struct encoder *encoder = *ret = NEW(struct encoder);
        encoder->encoding = *encoding;
        encoder->context = ZSTD_createCCtx();
        encoder->output = malloc(OUTPUT_SIZE);
        if (!encoder->context || !encoder->output)
                return st_error_errno(err, ENOMEM, "cannot compress");
        ZSTD_CCtx_setParameter(encoder->context, ZSTD_c_compressionLevel, LEVEL);
        ZSTD_CCtx_setParameter(encoder->context, ZSTD_c_checksumFlag, 1);
        /* A library that was built without threads says no, and compresses in this one. */
        if (encoding->size > OUTPUT_SIZE)
                ZSTD_CCtx_setParameter(encoder->context, ZSTD_c_nbWorkers,
                                       (int)(encoding->threads < WORKERS_MAX ? encoding->threads : WORKERS_MAX));
        ZSTD_CCtx_setPledgedSrcSize(encoder->context, encoding->size);
        return 0;
}

static int run(struct encoder *encoder, const void *data, size_t length, ZSTD_EndDirective mode,
               struct st_error **err) {
        ZSTD_inBuffer in = { .src = data, .size = length };
        for (;;) {
                ZSTD_outBuffer out = { .dst = encoder->output, .size = OUTPUT_SIZE };
                size_t left = ZSTD_compressStream2(encoder->context, &out, &in, mode);
                if (ZSTD_isError(left))
                        return st_error_set(err, EIO, "compression failed: %s", ZSTD_getErrorName(left));
                int r = encoder->encoding.put(encoder->encoding.userdata, encoder->output, out.pos, err);
                if (r < 0)
                        return r;
                if (mode == ZSTD_e_end ? left == 0 : in.pos == in.size)
                        return 0;
        }
}

static int encode(void *encoder, const void *data, size_t length, struct st_error **err) {
        return run(encoder, data, length, ZSTD_e_continue, err);
}

static int finish(void *encoder, struct st_error **err) {
        return run(encoder, NULL, 0, ZSTD_e_end, err);
}

static int decoder_new(bool checked, void **ret) {
        ZSTD_DCtx *context = *ret = ZSTD_createDCtx();
        if (!context)
                return -ENOMEM;
        ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
        /* Saves a tenth of the time; a library that does not know it looks at the checksum in vain. */
        if (!checked)
                ZSTD_DCtx_setParameter(context, ZSTD_d_forceIgnoreChecksum, ZSTD_d_ignoreChecksum);
        return 0;
}

static int decode(void *decoder, struct codec_io *io, struct st_error **err) {
        ZSTD_inBuffer in = { .src = io->in, .size = io->in_size };
        ZSTD_outBuffer out = { .dst = io->out, .size = io->out_size };
        size_t r = ZSTD_decompressStream(decoder, &out, &in);
        if (ZSTD_isError(r))
                return st_error_set(err, EBADMSG, "it does not decode: %s", ZSTD_getErrorName(r));
        io->in += in.pos;
        io->in_size -= in.pos;
        io->out += out.pos;
        io->out_size -= out.pos;
        io->ended = r == 0;
        return 0;
}

static void decoder_free(void *decoder) {
        ZSTD_freeDCtx(decoder);
}

const struct codec codec_zstd = {
        .format = IMAGE_ZSTD,
        .name = "zstd",
        .suffix = ".tar.zst",
        .what = "zstd data",
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
