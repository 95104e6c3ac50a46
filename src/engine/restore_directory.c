/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/restore_directory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "criu/images.h"
#include "engine/operation.h"

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

/** @return 1, 0, -errno with err */
static int is_needed(const struct restore_context *context, struct st_error **err) {
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

static int unpack_file(struct restore_context *context, const char *directory, const char *name,
                       struct st_error **err) {
        _cleanup_free_ char *path = path_join(directory, name);
        _cleanup_close_ int fd = -EBADF;
        int r = st_operation_check_cancelled(context->restore.operation, err);

        if (r < 0)
                return r;
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot create %s", path);
        r = image_copy_to_fd(context->image, name, fd, err);
        return r < 0 ? st_error_wrap(err, "cannot unpack %s", name) : 0;
}

int restore_directory(struct restore_context *context, char **ret, struct st_error **err) {
        struct st_operation *operation = context->restore.operation;
        _cleanup_(restore_directory_freep) char *directory = NULL;
        _cleanup_free_ char *base = NULL;
        int r = is_needed(context, err);

        if (r <= 0)
                return r;
        base = path_join(path_temporary_dir(), "stasis-restore");
        directory = image_partial_path(base, operation_id(operation));
        r = operation_record_partial(operation, directory, err);
        if (r < 0)
                return r;
        if (mkdir(directory, 0700) < 0) {
                r = st_error_errno(err, errno, "cannot make %s", directory);
                free(TAKE_PTR(directory)); /* not ours */
                return r;
        }
        for (size_t i = 0; i < image_file_count(context->image); i++) {
                r = unpack_file(context, directory, image_file_name(context->image, i), err);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(directory);
        return 0;
}

void restore_directory_freep(char **directory) {
        if (*directory)
                (void)io_remove_tree(*directory);
        free(*directory);
}
