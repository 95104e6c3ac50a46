/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The dump by a handler of a plugin: it gets a directory for its files, and what is there then becomes the checkpoint.
 * For the format `none` the directory itself does, so nothing is copied, and its files are sent to the disk while the
 * handler still works.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stasis/checkpoint.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/dump_commit.h"
#include "engine/dump_context.h"
#include "engine/guard.h"
#include "engine/hooks.h"
#include "engine/memory_budget.h"
#include "engine/operation.h"
#include "engine/writeback.h"
#include "image/partial.h"

static bool is_in_place(const struct dump_context *context) {
        return context->format == IMAGE_NONE && context->streams <= 1;
}

/** Its owner is root until the commit: nobody else is to change what an engine writes there. */
static int make_directory(struct dump_context *context, const char *path, struct st_error **err) {
        const struct image_write options = { .partial = path, .uid = geteuid(), .gid = getegid() };
        int r = operation_record_partial(context->dump.operation, path, err);

        if (r < 0)
                return r;
        r = partial_make(&options, true);
        if (r < 0)
                return st_error_errno(err, r, "cannot make %s", path);
        context->images_fd = r;
        return 0;
}

int st_dump_directory(struct st_dump *dump, const char **ret, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        _cleanup_free_ char *beside = NULL, *path = NULL;
        int r;

        if (context->committed)
                return st_error_set(err, EBUSY, "the checkpoint is complete: nothing can be added");

        if (context->images) {
                *ret = context->images;
                return 0;
        }
        beside = xasprintf("%s.images", dump->destination);
        path = is_in_place(context) ? xstrdup(context->partial)
                                    : image_partial_path(beside, operation_id(dump->operation));
        r = make_directory(context, path, err);
        if (r < 0)
                return r;
        if (is_in_place(context))
                context->writeback = writeback_start(path);
        *ret = context->images = TAKE_PTR(path);
        return 0;
}

void dump_images_clear(struct dump_context *context) {
        context->writeback = writeback_stop(context->writeback);
        if (context->images && !(context->committed && is_in_place(context)))
                (void)io_remove_tree(context->images);
        free(context->images);
        context->images = NULL;
        if (context->images_fd >= 0)
                close(context->images_fd);
        context->images_fd = -EBADF;
}

/** Puts what is in the directory into the store, by name only. */
static int list_images(const struct dump_context *context, struct store *store, struct st_error **err) {
        _cleanup_closedir_ DIR *d = opendir(context->images);
        struct dirent *entry;

        if (!d)
                return st_error_errno(err, errno, "cannot read %s", context->images);
        while ((errno = 0, entry = readdir(d))) {
                _cleanup_free_ char *path = path_join(context->images, entry->d_name);
                struct stat st;

                if (streq(entry->d_name, ".") || streq(entry->d_name, ".."))
                        continue;
                if (lstat(path, &st) < 0)
                        return st_error_errno(err, errno, "cannot look at %s", path);
                if (!S_ISREG(st.st_mode))
                        return st_error_set(err, EINVAL, "%s is no regular file: a checkpoint cannot hold it", path);
                if (!store_add_path(store, entry->d_name, path, (uint64_t)st.st_size, err))
                        return st_error_number(err ? *err : NULL) ?: -EIO;
        }
        return errno ? st_error_errno(err, errno, "cannot read %s", context->images) : 0;
}

int st_dump_commit(struct st_dump *dump, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        _cleanup_free_ char *spill = path_directory(dump->destination);
        _cleanup_(store_freep) struct store *store = NULL;
        int r;

        if (context->committed)
                return 0;
        if (!context->images)
                return st_error_set(err, EINVAL, "the handler of type %s has made no checkpoint", dump->req->type);
        context->writeback = writeback_stop(context->writeback);
        store = store_new(memory_budget(st_operation_config(dump->operation)), spill);
        r = dump_commit_state(context, store, err);
        if (r >= 0)
                r = list_images(context, store, err);
        if (r >= 0)
                r = dump_commit(context, store, is_in_place(context), err);
        if (r < 0)
                return st_error_wrap(err, "cannot write the checkpoint");
        context->committed = true;
        dump_images_clear(context);
        return 0;
}

void st_dump_withdraw(struct st_dump *dump) {
        struct dump_context *context = dump_context(dump);

        if (context->committed)
                (void)io_remove_tree(dump->destination);
        context->committed = false;
}

void st_dump_thawed(struct st_dump *dump) {
        hooks_after_thaw(dump_context(dump));
}

int st_dump_guard(struct st_dump *dump, struct st_error **err) {
        struct dump_context *context = dump_context(dump);

        return context->guard ? 0 : guard_start(dump->operation, dump->req, &context->guard, err);
}

void st_dump_unguard(struct st_dump *dump) {
        struct dump_context *context = dump_context(dump);

        context->guard = guard_end(context->guard);
}

void st_dump_message(struct st_dump *dump, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        message_append(&dump->resp->n_messages, &dump->resp->messages, xvasprintf(format, ap));
        va_end(ap);
}

int st_dump_criu_failed(struct st_dump *dump, const char *directory, int status, struct st_error **err) {
        _cleanup_free_ char *name = xasprintf("dump-%s-%s", dump->req->type, operation_id(dump->operation));
        int64_t keep = st_arguments_int(st_operation_config(dump->operation), "Log.KeepFailed");

        return criu_fail(directory, CRIU_DUMP, status, name, 0, keep > 0 ? (size_t)keep : 0, err);
}

/** Around the handler: commits what it made, or removes it. */
int dump_images(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct dump_context *context = dump_context(dump);
        int r = st_dump_proceed(next, dump, err);

        (void)st_dump_hook_result(dump, NULL);
        st_dump_unguard(dump);
        st_dump_thawed(dump);
        if (r >= 0)
                r = st_dump_commit(dump, err);
        else if (context->committed)
                /* Whether its target still runs is not known: it may be the only copy. */
                st_error_wrap(err, "the checkpoint %s is complete and kept, but", dump->destination);
        dump_images_clear(context);
        if (r >= 0)
                message_append(&dump->resp->n_paths, &dump->resp->paths, xstrdup(dump->destination));
        return r;
}
