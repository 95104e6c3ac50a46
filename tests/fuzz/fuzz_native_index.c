/* SPDX-License-Identifier: Apache-2.0 */

/* The index of a native image, decoded. The first eight bytes say how many bytes its frames have together. */

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "image/native_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_extents(const struct native_index *index, const struct native_file *file) {
        uint64_t size = 0;
        for (uint32_t i = 0; i < file->n; i++) {
                if (file->kind == NATIVE_PAGES) {
                        size += file->runs[i].count * (uint64_t)NATIVE_PAGE;
                        continue;
                }
                const struct native_extent *extent = &file->extents[i];
                size += extent->length;
                if (extent->frame >= index->n_frames ||
                    (uint64_t)extent->offset + extent->length > index->frames[extent->frame].decoded)
                        abort();
        }
        if (size != file->size)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct native_index index = { 0 };
        struct st_error *error = NULL;
        uint64_t frames_size;
        if (size < sizeof(frames_size))
                return 0;
        memcpy(&frames_size, data, sizeof(frames_size));
        data += sizeof(frames_size);
        size -= sizeof(frames_size);
        int r = native_index_parse(data, size, le64toh(frames_size), &index, &error);
        if ((r < 0) != (error != NULL) || (r < 0 && (index.n_files > 0 || index.files)))
                abort();
        if (r == 0) { /* what is accepted is what would have been written */
                size_t again_size;
                uint8_t *again = native_index_make(&index, &again_size);
                if (!again || again_size != size || memcmp(again, data, size) != 0)
                        abort();
                free(again);
                for (uint32_t i = 0; i < index.n_files; i++)
                        check_extents(&index, &index.files[i]);
        }
        native_index_clear(&index);
        st_error_free(error);
        return 0;
}
