/* SPDX-License-Identifier: Apache-2.0 */

/* The frames of the native image: compressed each by itself. */

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "image/native_format.h"

/** Level 3 is not smaller by more than 1 %, and takes a third longer. */
#define LEVEL 1

struct native_coder {
        ZSTD_CCtx *compress; /* made when first needed */
        ZSTD_DCtx *decompress;
        void *lz4; /* its state */
};

int native_codec_from_text(const char *text, enum native_codec *ret, struct st_error **err) {
        static const char *const names[] = { [NATIVE_RAW] = "none", [NATIVE_LZ4] = "lz4", [NATIVE_ZSTD] = "zstd" };
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                if (!streq(text, names[i]))
                        continue;
                *ret = (enum native_codec)i;
                return 0;
        }
        return st_error_set(err, EINVAL, "unknown codec '%s' of an image (there are zstd, lz4, none)", text);
}

struct native_coder *native_coder_new(void) {
        return NEW(struct native_coder);
}

struct native_coder *native_coder_free(struct native_coder *coder) {
        if (!coder)
                return NULL;
        ZSTD_freeCCtx(coder->compress);
        ZSTD_freeDCtx(coder->decompress);
        free(coder->lz4);
        free(coder);
        return NULL;
}

/** @return stored size; 0: it does not get smaller than `room`; -ENOMEM */
static ssize_t compress_zstd(struct native_coder *coder, const void *in, size_t size, uint8_t *out, size_t room) {
        if (!coder->compress && !(coder->compress = ZSTD_createCCtx()))
                return -ENOMEM;
        size_t n = ZSTD_compressCCtx(coder->compress, out, room, in, size, LEVEL);
        return ZSTD_isError(n) ? 0 : (ssize_t)n;
}

static ssize_t compress_lz4(struct native_coder *coder, const void *in, size_t size, uint8_t *out, size_t room) {
        if (!coder->lz4 && !(coder->lz4 = malloc((size_t)LZ4_sizeofState())))
                return -ENOMEM;
        return LZ4_compress_fast_extState(coder->lz4, in, (char *)out, (int)size, (int)room, 1);
}

ssize_t native_encode(struct native_coder *coder, enum native_codec codec, const void *in, size_t size, uint8_t *out,
                      uint8_t *ret_codec) {
        ssize_t n = 0;
        if (size == 0 || size > NATIVE_FRAME_MAX)
                return -EINVAL;
        if (codec == NATIVE_ZSTD)
                n = compress_zstd(coder, in, size, out, NATIVE_STORED_MAX);
        else if (codec == NATIVE_LZ4)
                n = compress_lz4(coder, in, size, out, NATIVE_STORED_MAX);
        if (n < 0)
                return n;
        if (n > 0 && (size_t)n < size) {
                *ret_codec = (uint8_t)codec;
                return n;
        }
        memcpy(out, in, size);
        *ret_codec = NATIVE_RAW;
        return (ssize_t)size;
}

/** One frame of Zstandard, no more; without its window in memory: the result is all there. */
static bool decompress_zstd(struct native_coder *coder, const struct native_frame *frame, const uint8_t *stored,
                            uint8_t *out) {
        if (!coder->decompress && !(coder->decompress = ZSTD_createDCtx()))
                abort(); /* 150 KiB, as in xmalloc() */
        return ZSTD_findFrameCompressedSize(stored, frame->stored) == frame->stored &&
               ZSTD_decompressDCtx(coder->decompress, out, frame->decoded, stored, frame->stored) == frame->decoded;
}

int native_decode(struct native_coder *coder, const struct native_frame *frame, const uint8_t *stored, uint8_t *out) {
        if (frame->decoded > NATIVE_FRAME_MAX || frame->stored > NATIVE_STORED_MAX ||
            !hash_equal(hash_of(stored, frame->stored), frame->digest))
                return -EBADMSG;
        switch (frame->codec) {
        case NATIVE_RAW:
                if (frame->stored != frame->decoded)
                        return -EBADMSG;
                memcpy(out, stored, frame->decoded);
                return 0;
        case NATIVE_LZ4:
                return LZ4_decompress_safe((const char *)stored, (char *)out, (int)frame->stored,
                                           (int)frame->decoded) == (int)frame->decoded
                               ? 0
                               : -EBADMSG;
        case NATIVE_ZSTD:
                return decompress_zstd(coder, frame, stored, out) ? 0 : -EBADMSG;
        default:
                return -EBADMSG;
        }
}
