/* SPDX-License-Identifier: Apache-2.0 */

/* A file that somebody says is a checkpoint: opened, listed, read, checked. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/memory.h"
#include "image/codec.h"
#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct image *image) {
        struct st_error *error = NULL;
        char *text;
        size_t size;
        for (size_t i = image_file_count(image); i-- > 0;) {
                int r = image_read(image, image_file_name(image, i), &text, &size, &error);
                if ((r < 0) != (error != NULL) || (r == 0 && size != image_file_size(image, i)))
                        abort();
                if (r == 0)
                        free(text);
                error = st_error_free(error);
        }
        int r = image_check(image, &error);
        if ((r < 0) != (error != NULL))
                abort();
        error = st_error_free(error);
        r = image_verify(image, -EBADF, &error);
        if ((r < 0) != (error != NULL))
                abort();
        st_error_free(error);
}

static void open_bytes(const void *data, size_t size) {
        int fd = io_memfd("archive", data, size);
        if (fd < 0)
                return;
        char *path = xasprintf("/proc/self/fd/%d", fd);
        struct image *image = NULL;
        struct st_error *error = NULL;
        int r = image_open(path, &image, &error);
        if ((r < 0) != (error != NULL))
                abort();
        if (r == 0)
                use(image);
        image_free(image);
        st_error_free(error);
        free(path);
        close(fd);
}

struct bytes {
        uint8_t *data;
        size_t size;
};

static int put(void *userdata, const void *data, size_t length, struct st_error **err) {
        struct bytes *bytes = userdata;
        (void)err;
        bytes->data = xrealloc(bytes->data, bytes->size + length + 1, 1);
        memcpy(bytes->data + bytes->size, data, length);
        bytes->size += length;
        return 0;
}

/** The input as the content of an archive with a right footer, or nothing would get past that. */
static void open_sealed(const struct codec *codec, const uint8_t *data, size_t size) {
        struct bytes bytes = { 0 };
        struct codec_encoding encoding = { .size = size, .put = put, .userdata = &bytes };
        uint8_t payload[FOOTER_PAYLOAD], footer[FOOTER_MAX];
        void *encoder = NULL;
        if (codec->encoder_new(&encoding, &encoder, NULL) < 0 || codec->encode(encoder, data, size, NULL) < 0 ||
            codec->finish(encoder, NULL) < 0)
                abort();
        footer_make(payload, bytes.size, hash_of(bytes.data, bytes.size));
        codec->make_footer(encoder, payload, footer);
        put(&bytes, footer, codec->footer_size, NULL);
        codec->encoder_free(encoder);
        open_bytes(bytes.data, bytes.size);
        free(bytes.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size == 0)
                return 0;
        open_bytes(data, size);
        if (data[0] == 's' && size > 1) { /* not always: it takes time */
                open_sealed(&codec_tar, data + 1, size - 1);
                open_sealed(&codec_lz4, data + 1, size - 1);
                open_sealed(&codec_zlib, data + 1, size - 1);
        }
        return 0;
}
