/* SPDX-License-Identifier: Apache-2.0 */

/* The files of an opened checkpoint by number, and those that were replaced in memory. */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "image/formats.h"

const struct image_override *image_find_override(const struct image *image, const char *name) {
        for (size_t i = 0; i < image->n_overrides; i++)
                if (streq(image->overrides[i]->entry.name, name))
                        return image->overrides[i];
        return NULL;
}

void image_clear_overrides(struct image *image) {
        for (size_t i = 0; i < image->n_overrides; i++) {
                free(image->overrides[i]->entry.name);
                free(image->overrides[i]->data);
                free(image->overrides[i]);
        }
        free(image->overrides);
        image->overrides = NULL;
        image->n_overrides = image->room_overrides = 0;
}

int image_override(struct image *image, const char *name, void *data, size_t size, struct st_error **err) {
        _cleanup_free_ void *owned = data;
        if (!path_is_name(name))
                return st_error_set(err, EINVAL, "'%s' is no name for a file of a checkpoint", name);
        struct image_override *override = (struct image_override *)image_find_override(image, name);
        if (!override) {
                override = NEW(struct image_override);
                override->entry.name = xstrdup(name);
                GROW(image->overrides, image->n_overrides, image->room_overrides);
                image->overrides[image->n_overrides++] = override;
                override->replaced = manifest_find(&image->manifest, name) != NULL;
        }
        free(override->data);
        override->data = TAKE_PTR(owned);
        override->entry.size = size;
        override->entry.hash = hash_of(override->data ? override->data : (const void *)"", size);
        return 0;
}

/** The index-th of the overrides that replace nothing. */
static const struct image_override *added(const struct image *image, size_t index) {
        for (size_t i = 0; i < image->n_overrides; i++)
                if (!image->overrides[i]->replaced && index-- == 0)
                        return image->overrides[i];
        return NULL;
}

size_t image_file_count(const struct image *image) {
        size_t n = image->manifest.n;
        for (size_t i = 0; i < image->n_overrides; i++)
                n += image->overrides[i]->replaced ? 0 : 1;
        return n;
}

const char *image_file_name(const struct image *image, size_t index) {
        return index < image->manifest.n ? image->manifest.entries[index].name
                                         : added(image, index - image->manifest.n)->entry.name;
}

uint64_t image_file_size(const struct image *image, size_t index) {
        const struct image_override *override = image_find_override(image, image_file_name(image, index));
        return override ? override->entry.size : image->manifest.entries[index].size;
}
