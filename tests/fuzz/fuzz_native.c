/* SPDX-License-Identifier: Apache-2.0 */

/* A whole native image, as it is and with right checksums: opened, verified, all files read. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "image/image.h"
#include "image/native.h"
#include "image/native_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Files say how long they are, and may be full of zeros. */
#define READ_MAX ((size_t)4 << 20)

static uint64_t get64(const uint8_t *at) {
        uint64_t value = 0;
        for (int i = 7; i >= 0; i--)
                value = value << 8 | at[i];
        return value;
}

static void put64(uint8_t *at, uint64_t value) {
        for (int i = 0; i < 8; i++, value >>= 8)
                at[i] = (uint8_t)value;
}

/** Puts the digests of frames into an index that is stored as it is. */
static void mend_frames(uint8_t *bytes, uint64_t digests_at, uint8_t *stored, size_t size) {
        struct native_index index = { 0 };
        if (native_index_parse(stored, size, digests_at - NATIVE_HEADER, &index, NULL) < 0)
                return;
        for (uint32_t i = 0; i < index.n_frames; i++)
                index.frames[i].digest = hash_of(bytes + index.frames[i].offset, index.frames[i].stored);
        size_t again_size;
        uint8_t *again = native_index_make(&index, &again_size);
        if (again && again_size == size)
                memcpy(stored, again, size);
        free(again);
        native_index_clear(&index);
}

/** Makes all checksums right, and what is redundant, or nothing would get past them. */
static void mend(uint8_t *bytes, size_t size) {
        if (size < NATIVE_HEADER + NATIVE_FOOTER)
                return;
        uint8_t *footer = bytes + size - NATIVE_FOOTER;
        uint64_t digests_at = get64(footer + 24), index_at = get64(footer + 32);
        put64(footer + 16, size);
        memcpy(footer + 96, bytes + 16, NATIVE_ID);
        native_put_digest(bytes + 48, hash_of(bytes, 48));
        if (digests_at >= NATIVE_HEADER && digests_at <= index_at && index_at <= size - NATIVE_FOOTER) {
                size_t index_size = size - NATIVE_FOOTER - (size_t)index_at;
                put64(footer + 40, index_size);
                if (footer[56] == NATIVE_RAW) {
                        put64(footer + 48, index_size);
                        mend_frames(bytes, digests_at, bytes + index_at, index_size);
                }
                native_put_digest(footer + 64, hash_of(bytes + digests_at, (size_t)(index_at - digests_at)));
                native_put_digest(footer + 80, hash_of(bytes + index_at, index_size));
        }
        native_put_digest(footer + 112, hash_of(footer, 112));
}

static void read_files(const struct native *native) {
        struct native_reader *reader = native_reader_new(native);
        static uint8_t buffer[65536];
        for (uint32_t i = 0; i < native->index.n_files; i++) {
                const struct native_file *file = &native->index.files[i];
                size_t have = 0;
                ssize_t n = 1;
                if (native_find(native, file->name) != file)
                        abort();
                native_reader_begin(reader, file);
                while (have < READ_MAX && (n = native_reader_read(reader, buffer, sizeof(buffer), NULL)) > 0)
                        have += (size_t)n;
                if (n == 0 && have != file->size)
                        abort();
        }
        native_reader_free(reader);
}

static void open_all(const uint8_t *data, size_t size) {
        int fd = io_memfd("fuzz", data, size);
        if (fd < 0)
                return;
        struct native *native = NULL;
        struct image *image = NULL;
        struct st_error *error = NULL;
        char path[64];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        int r = native_open(path, fd, &native, &error);
        if ((r < 0) != (error != NULL) || (r < 0) != (native == NULL))
                abort();
        if (r == 0)
                read_files(native);
        native_free(native);
        st_error_free(error);
        native = NULL;
        if (native_open_alone(path, fd, &native, NULL) < 0 && r == 0)
                abort();
        native_free(native);
        error = NULL;
        r = image_open(path, &image, &error);
        if (r == 0)
                r = image_verify(image, -EBADF, &error);
        if ((r < 0) != (error != NULL))
                abort();
        image_free(image);
        st_error_free(error);
        close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        open_all(data, size);
        uint8_t *mended = malloc(size + 1);
        if (!mended)
                return 0;
        if (size > 0)
                memcpy(mended, data, size);
        mend(mended, size);
        open_all(mended, size);
        free(mended);
        return 0;
}
