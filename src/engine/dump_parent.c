/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The parent of a native image: another one, whose pages the new one refers to. It is opened, with its ancestors, and
 * kept in its place before anything is frozen, until the checkpoint is there.
 */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/dump_context.h"
#include "engine/operation.h"
#include "image/native.h"
#include "image/native_chain.h"

/* It may be exchanged for another one, which is as good, between opening and holding. */
#define ATTEMPTS 5

static int check_format(const struct dump_context *context, const char *path, struct st_error **err) {
        if (context->format == IMAGE_NATIVE)
                return 0;
        st_error_set(err, EINVAL, "a checkpoint of the format %s has no parent, and %s cannot be it",
                     image_format_name(context->format), path);
        st_error_hint(err, "choose the format of checkpoints with --compression image");
        return -EINVAL;
}

static int open_once(const char *path, int cancel_fd, struct native **ret, struct st_error **err) {
        _cleanup_(native_freep) struct native *native = NULL;
        _cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        uint8_t head[NATIVE_HEADER];
        ssize_t n;
        int r;

        if (fd < 0)
                return st_error_errno(err, errno, "cannot open %s", path);
        n = io_read_at(fd, head, sizeof(head), 0);
        if (n < 0 || !native_recognise(head, (size_t)n))
                return st_error_set(err, EINVAL, "%s is no checkpoint of the format image", path);
        r = native_open(path, fd, &native, err);
        if (r >= 0)
                r = native_hold(native, cancel_fd, err);
        if (r >= 0)
                *ret = TAKE_PTR(native);
        return r;
}

static int open_parent(const char *path, int cancel_fd, struct native **ret, struct st_error **err) {
        for (int i = 1;; i++) {
                struct st_error *error = NULL;
                int r = open_once(path, cancel_fd, ret, &error);

                if (r >= 0)
                        return 0;
                if (r != -ESTALE || i == ATTEMPTS) {
                        st_error_move(err, error);
                        return st_error_wrap(err, "the parent cannot be used");
                }
                st_error_free(error);
        }
}

int dump_parent(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        _cleanup_(native_freep) struct native *parent = NULL;
        struct dump_context *context = dump_context(dump);
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        if (isempty(dump->req->parent))
                return st_dump_proceed(next, dump, err);
        path = path_absolute(dump->req->parent);
        r = check_format(context, path, &error);
        if (r >= 0)
                r = open_parent(path, st_operation_cancel_fd(dump->operation), &parent, &error);
        if (r < 0 && (!dump->req->parentoptional || r == -ECANCELED))
                return st_error_move(err, TAKE_PTR(error));
        if (r < 0)
                st_log_warning("this checkpoint is made without a parent: %s", st_error_message(error));
        else
                context->parent = path;
        r = st_dump_proceed(next, dump, err);
        context->parent = NULL;
        return r;
}
