/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Checkpoints unpacked to disk, for whoever cannot be served by a stream. */

#include "engine/restore_context.h"

/**
 * Unpacks all files, each checked, into a directory of its own below TMPDIR (/var/tmp); the clean-up of the work
 * directory knows it, too. Done once for a restore.
 *
 * @param ret owned by the context, removed with it
 * @return 0; -EBADMSG: damaged; -ECANCELED; -ENOSPC; …, with err
 */
int restore_images_unpack(struct restore_context *context, const char **ret, struct st_error **err);

/** Removes what was unpacked. */
void restore_images_clear(struct restore_context *context);
