/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Puts files back to what they were at a dump. All or nothing, and nothing is ever lost:
 *
 *   prepare  makes, beside each file, what its change needs: a copy of the tail that will be cut off
 *            (PATH.stasis-tail-TIME) or a file with the saved content; synced. The files themselves stay as they are.
 *   apply    cuts, or exchanges atomically the present file with the new one: the present file is then under
 *            PATH.stasis-kept-TIME. A file that changed since it was looked at stops it, and all is undone.
 *   undo     puts everything back, when the restore fails: tails to their files, kept files to their names. What
 *            somebody has written to meanwhile is left, with its companion.
 *
 * (For a restore by a policy the names differ, and are fewer: file_companions.h.)
 *
 * Killed at any moment, every byte is in the file or in its companion. Names of companions are never those of files
 * that exist: they get -2, -3, ….
 */

#include "engine/file_changes.h"

struct file_rollback;

/**
 * Prepares all changes with a remedy that is possible. On failure nothing is left of it.
 *
 * @param by_policy nobody has asked for the restore
 */
int file_rollback_prepare(struct image *image, const struct file_changes *changes, bool by_policy,
                          struct file_rollback **ret, struct st_error **err);

/** Applies all. On failure all is undone. */
int file_rollback_apply(struct file_rollback *rollback, struct st_error **err);

/** @return 0; a negative errno with err, naming the first file that could not be put back, and where its bytes are */
int file_rollback_undo(struct file_rollback *rollback, struct st_error **err);

/** Calls `say` with a line for the user for each file. */
void file_rollback_describe(const struct file_rollback *rollback, void (*say)(const char *line, void *userdata),
                            void *userdata);

/**
 * After a restore by policy that has worked: removes what earlier ones have kept of the same files, where this one has
 * kept something.
 *
 * @return how many files were removed
 */
size_t file_rollback_remove_older(const struct file_rollback *rollback);

/** Frees the object; removes what was prepared and not applied. @return NULL */
struct file_rollback *file_rollback_free(struct file_rollback *rollback);
static inline void file_rollback_freep(struct file_rollback **rollback) {
        *rollback = file_rollback_free(*rollback);
}
