/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Pages of the parent that are referred to without having been looked at, between those that were stored. */

#include "image/native_format.h"
#include "image/store.h"

/** Can a run of the parent be referred to by its child, whose list of ancestors has an end? */
static inline bool native_can_refer(const struct native_run *run) {
        return run->source == NATIVE_ZERO || run->source < NATIVE_ANCESTORS_MAX;
}

/**
 * Puts the runs of a file's references between those of its stored pages. Sources of the parent become those of the
 * child: one more.
 *
 * @param file has the runs of the stored pages, all of them; gets the others, and its whole size
 * @return 0; -EBADMSG with err: a reference is to pages that are not there
 */
int native_weave(const struct store_file *source, struct native_file *file, struct st_error **err);
