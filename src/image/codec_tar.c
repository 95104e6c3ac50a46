/* SPDX-License-Identifier: Apache-2.0 */

/* tar as it is. The footer is the end of the padding that may follow the two blocks of zeros. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "image/codec.h"
#include "image/tar.h"

static bool recognise(const uint8_t *head, size_t n) {
        return n >= TAR_BLOCK && memcmp(head + 257, "ustar", 5) == 0;
}

static int encoder_new(const struct codec_encoding *encoding, void **ret, struct st_error **err) {
        struct codec_encoding *encoder = *ret = NEW(struct codec_encoding);
        (void)err;
        *encoder = *encoding;
        return 0;
}

static int encode(void *userdata, const void *data, size_t length, struct st_error **err) {
        const struct codec_encoding *encoder = userdata;
        return length > 0 ? encoder->put(encoder->userdata, data, length, err) : 0;
}

static int finish(void *userdata, struct st_error **err) {
        static const uint8_t zeros[TAR_BLOCK];
        return encode(userdata, zeros, TAR_BLOCK - FOOTER_PAYLOAD, err);
}

static void make_footer(void *encoder, const uint8_t payload[FOOTER_PAYLOAD], uint8_t *footer) {
        (void)encoder;
        memcpy(footer, payload, FOOTER_PAYLOAD);
}

static int decoder_new(bool checked, void **ret) {
        (void)checked;
        *ret = NULL;
        return 0;
}

static int decode(void *decoder, struct codec_io *io, struct st_error **err) {
        size_t n = io->in_size < io->out_size ? io->in_size : io->out_size;
        (void)decoder;
        (void)err;
        if (n > 0)
                memcpy(io->out, io->in, n);
        io->in += n;
        io->in_size -= n;
        io->out += n;
        io->out_size -= n;
        io->ended = true;
        return 0;
}

const struct codec codec_tar = {
        .format = IMAGE_TAR,
        .name = "tar",
        .suffix = ".tar",
        .what = "a tar archive",
        .recognise = recognise,
        .encoder_new = encoder_new,
        .encode = encode,
        .finish = finish,
        .make_footer = make_footer,
        .encoder_free = free,
        .decoder_new = decoder_new,
        .decode = decode,
        .decoder_free = free,
        .footer_size = FOOTER_PAYLOAD,
        .inside = true,
        .tail_is_known = true,
};
