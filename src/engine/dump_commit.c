/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dump_commit.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "engine/operation.h"

static void on_written(uint64_t done, uint64_t total, void *userdata) {
        st_operation_progress(userdata, "writing", done, total);
}

int dump_commit_state(struct dump_context *context, struct store *store, struct st_error **err) {
        struct store_file *state = store_add(store, IMAGE_STATE, err);

        if (!state)
                return st_error_number(err ? *err : NULL) ?: -EIO;
        return store_append(store, state, context->state, strlen(context->state), err);
}

/** How it is written; points into the context. */
static struct image_write options_of(const struct dump_context *context, bool in_place) {
        struct st_operation *operation = context->dump.operation;

        return (struct image_write){
                .format = context->format,
                .streams = context->streams,
                .codec = context->codec,
                .parent = context->parent,
                .destination = context->dump.destination,
                .partial = context->partial,
                .in_place = in_place,
                .uid = st_operation_uid(operation),
                .gid = st_operation_gid(operation),
                .cancel_fd = st_operation_cancel_fd(operation),
                .progress = on_written,
                .userdata = operation,
        };
}

int dump_commit_early(struct dump_context *context, struct store *store, struct st_error **err) {
        const struct image_write options = options_of(context, false);
        int r = operation_record_partial(context->dump.operation, context->partial, err);

        return r < 0 ? r : image_write_early(store, &options, err);
}

int dump_commit(struct dump_context *context, struct store *store, bool in_place, struct st_error **err) {
        struct st_operation *operation = context->dump.operation;
        const struct image_write options = options_of(context, in_place);
        int r = in_place ? 0 : operation_record_partial(operation, context->partial, err);

        if (r >= 0)
                r = image_write(store, &options, err);
        if (r == -ECANCELED) {
                /* Says why: the caller's wish or the time. */
                _cleanup_error_ struct st_error *reason = NULL;

                if (st_operation_check_cancelled(operation, &reason) < 0 && st_error_number(reason) != r) {
                        if (err)
                                *err = st_error_free(*err);
                        return st_error_move(err, TAKE_PTR(reason));
                }
        }
        return r;
}
