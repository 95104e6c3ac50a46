/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "image/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const char *text, size_t size) {
        struct manifest manifest = { 0 };
        struct st_error *error = NULL;
        int r = manifest_parse(text, size, &manifest, &error);
        if ((r < 0) != (error != NULL) || (r < 0 && manifest.n > 0))
                abort();
        if (r == 0) { /* what is accepted is what would have been written */
                size_t again_size;
                char *again = manifest_to_text(&manifest, &again_size);
                if (again_size != size || memcmp(again, text, size) != 0)
                        abort();
                free(again);
        }
        st_error_free(error);
        manifest_clear(&manifest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        parse((const char *)data, size);

        /* The same with a right checksum, or nothing would get past it. */
        char hex[HASH_TEXT + 1], *text = malloc(size + HASH_TEXT + 6);
        if (!text)
                return 0;
        if (size > 0)
                memcpy(text, data, size);
        hash_to_text(hash_of(data, size), hex);
        memcpy(text + size, "end ", 4);
        memcpy(text + size + 4, hex, HASH_TEXT);
        text[size + 4 + HASH_TEXT] = '\n';
        parse(text, size + HASH_TEXT + 5);
        free(text);
        return 0;
}
