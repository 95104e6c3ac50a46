/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Restores that cannot be streamed: CRIU reads the private pages of hugetlbfs by their offsets in pages-N.img (its
 * restorer.c), which no pipe has. For these the checkpoint is unpacked first, each file checked.
 */

#include "engine/restore_context.h"

/** Are there such pages? @return 1, 0, -errno with err */
int restore_directory_is_needed(const struct restore_context *context, struct st_error **err);

/**
 * Unpacks the checkpoint, if it must be: restore_images.h.
 *
 * @param ret owned by the context; not set when the checkpoint can be streamed
 * @return 0; -EBADMSG: damaged; -ECANCELED; -ENOSPC; …, with err
 */
int restore_directory(struct restore_context *context, const char **ret, struct st_error **err);
