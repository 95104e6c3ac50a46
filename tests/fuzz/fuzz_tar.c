/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "image/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
        const uint8_t *data;
        size_t left;
};

static ssize_t read_input(void *userdata, void *buffer, size_t n, struct st_error **err) {
        (void)err;
        struct input *input = userdata;
        n = n < input->left ? n : input->left;
        if (n > 0)
                memcpy(buffer, input->data, n);
        input->data += n;
        input->left -= n;
        return (ssize_t)n;
}

/** Makes the checksum of every block right that looks like a header, or nothing would get past it. */
static void seal(uint8_t *archive, size_t size) {
        for (size_t at = 0; at + TAR_BLOCK <= size; at += TAR_BLOCK) {
                uint8_t *block = archive + at;
                unsigned sum = 8 * ' ';
                if (memcmp(block + 257, "ustar", 5) != 0)
                        continue;
                for (size_t i = 0; i < TAR_BLOCK; i++)
                        sum += i >= 148 && i < 156 ? 0 : block[i];
                for (int i = 5; i >= 0; i--, sum >>= 3)
                        block[148 + i] = (uint8_t)('0' + (sum & 7));
                block[154] = 0;
                block[155] = ' ';
        }
}

static void read_archive(const uint8_t *archive, size_t size, bool skip, bool foreign) {
        struct input input = { archive, size };
        struct tar_reader reader = { .read = read_input, .userdata = &input, .foreign = foreign };
        struct st_error *error = NULL;
        uint8_t buffer[1000];
        int r;
        while ((r = tar_next(&reader, &error)) > 0) {
                if (!path_is_name(reader.name) || reader.left != reader.size)
                        abort();
                ssize_t n = skip ? 0 : tar_read_data(&reader, buffer, sizeof(buffer), &error);
                while (n > 0)
                        n = tar_read_data(&reader, buffer, sizeof(buffer), &error);
                if (n < 0)
                        break;
        }
        if (r == 0)
                r = tar_end(&reader, NULL, 0, &error);
        if (r == 0 && (error || input.left > 0))
                abort();
        if (r < 0 && !error)
                abort();
        st_error_free(error);
        tar_clear(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        read_archive(data, size, false, size % 2 == 0);
        uint8_t *sealed = malloc(size > 0 ? size : 1);
        if (!sealed)
                return 0;
        if (size > 0)
                memcpy(sealed, data, size);
        seal(sealed, size);
        read_archive(sealed, size, false, false);
        read_archive(sealed, size, false, true);
        read_archive(sealed, size, true, true);
        free(sealed);
        return 0;
}
