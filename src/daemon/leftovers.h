/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Removing what takes long to go: unfinished checkpoints, deleted ones. On threads of their own: the loop goes on. */

#include <sys/types.h>

/**
 * Removes the unfinished checkpoints that killed writers have left in a directory: those that nobody holds a lock on,
 * and that are ours or that user's (src/image/partial.h). Logs how many.
 *
 * @param directory copied; need not be there
 */
void leftovers_clean(const char *directory, uid_t uid);

/** Removes what is at a hidden name, and leftovers beside it. @param path taken */
void leftovers_remove(char *path);
