/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/restore_directory.h"

#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/messages.h"
#include "criu/images.h"
#include "engine/restore_images.h"

/** Has a process, of which this is mm-N.img, private mappings of huge pages? @return 1, 0, -errno with err */
static int has_huge_pages(struct image *image, const char *name, struct st_error **err) {
        _cleanup_(message_freep) CriuImage__Mm *mm = NULL;
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = image_read(image, name, &data, &size, err);

        if (r >= 0)
                r = criu_images_load_one(name, data, size, &criu_image__mm__descriptor, &mm, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < mm->n_vmas; i++)
                if ((mm->vmas[i]->flags & MAP_HUGETLB) &&
                    (mm->vmas[i]->status & (CRIU_VMA_ANON_PRIVATE | CRIU_VMA_FILE_PRIVATE)))
                        return 1;
        return 0;
}

int restore_directory_is_needed(const struct restore_context *context, struct st_error **err) {
        uint64_t pid;

        if (context->saved && !context->saved->huge_pages)
                return 0;
        for (size_t i = 0; i < image_file_count(context->image); i++) {
                const char *name = image_file_name(context->image, i);
                int r = criu_images_id(name, "mm", &pid) ? has_huge_pages(context->image, name, err) : 0;

                if (r != 0)
                        return r;
        }
        return 0;
}

int restore_directory(struct restore_context *context, const char **ret, struct st_error **err) {
        int r = restore_directory_is_needed(context, err);

        return r <= 0 ? r : restore_images_unpack(context, ret, err);
}
