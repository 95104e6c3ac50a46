/* SPDX-License-Identifier: Apache-2.0 */

/* The ancestors of a native image, for who looks at a checkpoint. */

#include "image/formats.h"

size_t image_ancestor_count(const struct image *image) {
        return image->native ? image->native->index.n_ancestors : 0;
}

const char *image_ancestor_path(const struct image *image, size_t index) {
        return image->native->sources[index + 1].path;
}
