/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The commit of a checkpoint: from files of an image to a checkpoint under its final name. */

#include "engine/dump_context.h"
#include "image/store.h"

/**
 * Encodes, syncs and renames: from here on the checkpoint exists. IMAGE_STATE is in the store already.
 *
 * @param in_place the files that are on disk are in context->partial, which becomes the checkpoint
 * @return 0; -ECANCELED, -ETIMEDOUT with the reason; other -errno. After a failure nothing stands under the final name
 */
int dump_commit(struct dump_context *context, struct store *store, bool in_place, struct st_error **err);

/**
 * Prepares that before the store is filled: of a native image the parent is read, and encoding begins when the memory
 * budget is spent. store_free() undoes what was begun.
 */
int dump_commit_early(struct dump_context *context, struct store *store, struct st_error **err);

/** Adds IMAGE_STATE: what the checkpoint says of itself. */
int dump_commit_state(struct dump_context *context, struct store *store, struct st_error **err);
