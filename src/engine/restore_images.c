/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/restore_images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stasis/checkpoint.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/operation.h"
#include "image/partial.h"

size_t st_restore_count(const struct st_restore *restore) {
        return image_file_count(((const struct restore_context *)restore)->image);
}

const char *st_restore_name(const struct st_restore *restore, size_t index) {
        return image_file_name(((const struct restore_context *)restore)->image, index);
}

int st_restore_read(struct st_restore *restore, const char *name, char **ret, size_t *ret_size, struct st_error **err) {
        return image_read(restore_context(restore)->image, name, ret, ret_size, err);
}

int st_restore_copy(struct st_restore *restore, const char *name, int fd, struct st_error **err) {
        int r = st_operation_check_cancelled(restore->operation, err);

        return r < 0 ? r : image_copy_to_fd(restore_context(restore)->image, name, fd, err);
}

static int unpack_file(struct st_restore *restore, const char *directory, const char *name, struct st_error **err) {
        _cleanup_free_ char *path = path_join(directory, name);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        int r;

        if (fd < 0)
                return st_error_errno(err, errno, "cannot create %s", path);
        r = st_restore_copy(restore, name, fd, err);
        return r < 0 ? st_error_wrap(err, "cannot unpack %s", name) : 0;
}

int st_restore_unpack(struct st_restore *restore, const char *directory,
                      bool (*wanted)(const char *name, void *userdata), void *userdata, struct st_error **err) {
        uint64_t total = image_size(restore_context(restore)->image), done = 0;

        for (size_t i = 0; i < st_restore_count(restore); i++) {
                const char *name = st_restore_name(restore, i);
                int r = !wanted || wanted(name, userdata) ? unpack_file(restore, directory, name, err) : 0;

                if (r < 0)
                        return r;
                done += image_file_size(restore_context(restore)->image, i);
                st_operation_progress(restore->operation, "unpacking", done, total);
        }
        return 0;
}

int restore_images_unpack(struct restore_context *context, const char **ret, struct st_error **err) {
        struct st_operation *operation = context->restore.operation;
        struct image_write options = { .uid = geteuid(), .gid = getegid() };
        _cleanup_free_ char *base = NULL, *directory = NULL;
        int r;

        if (context->unpacked) {
                *ret = context->unpacked;
                return 0;
        }
        base = path_join(path_temporary_dir(), "stasis-restore");
        directory = image_partial_path(base, operation_id(operation));
        r = operation_record_partial(operation, directory, err);
        if (r < 0)
                return r;
        options.partial = directory;
        r = partial_make(&options, true);
        if (r < 0)
                return st_error_errno(err, r, "cannot make %s", directory);
        context->unpacked_fd = r;
        *ret = context->unpacked = TAKE_PTR(directory);
        return st_restore_unpack(&context->restore, *ret, NULL, NULL, err);
}

int st_restore_directory(struct st_restore *restore, const char **ret, struct st_error **err) {
        struct restore_context *context = restore_context(restore);
        int r;

        if (image_get_format(context->image) != IMAGE_NONE || image_is_overridden(context->image))
                return restore_images_unpack(context, ret, err);
        r = image_verified(context->image)
                    ? image_verify(context->image, st_operation_cancel_fd(restore->operation), err)
                    : image_check(context->image, err);
        if (r < 0)
                return r;
        *ret = image_path(context->image);
        return 0;
}

void restore_images_clear(struct restore_context *context) {
        if (context->unpacked)
                (void)io_remove_tree(context->unpacked);
        free(context->unpacked);
        context->unpacked = NULL;
        if (context->unpacked_fd >= 0)
                close(context->unpacked_fd);
        context->unpacked_fd = -EBADF;
}

void st_restore_message(struct st_restore *restore, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        message_append(&restore->resp->n_messages, &restore->resp->messages, xvasprintf(format, ap));
        va_end(ap);
}

void st_restore_finding(struct st_restore *restore, Daemon__FindingLevel level, const char *check, const char *subject,
                        const char *text, const char *hint) {
        Daemon__Finding *finding = message_new(&daemon__finding__descriptor);

        finding->has_level = 1;
        finding->level = level;
        message_set_string(&finding->check, check);
        message_set_string(&finding->subject, subject ?: "");
        message_set_string(&finding->text, text);
        if (hint)
                message_set_string(&finding->hint, hint);
        message_append(&restore->resp->n_findings, &restore->resp->findings, finding);
}

int st_restore_criu_failed(struct st_restore *restore, const char *directory, int status, struct st_error **err) {
        _cleanup_free_ char *name = xasprintf("restore-%s-%s", restore->req->type, operation_id(restore->operation));
        int64_t keep = st_arguments_int(st_operation_config(restore->operation), "Log.KeepFailed");

        return criu_fail(directory, CRIU_RESTORE, status, name, 0, keep > 0 ? (size_t)keep : 0, err);
}
