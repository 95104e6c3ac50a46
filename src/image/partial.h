/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The hidden name that a checkpoint has while it is written: .NAME.partial-ID beside its destination. What is being
 * written holds a lock on it (flock(2)), which ends with its writer: one without a lock was left by a crash, and
 * whoever writes to the same directory next removes it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct image_write;

/**
 * Makes the file or the directory at options->partial, with its owner, and locks it for as long as the descriptor is
 * open. On a file system without locks it has none: then nobody else removes it either.
 *
 * @return the descriptor or -errno
 */
int partial_make(const struct image_write *options, bool directory);

/**
 * Removes what crashed writers have left in a directory, as far as it belongs to us or to that user.
 *
 * @return how many were removed
 */
size_t partial_clean(const char *directory, uid_t uid);

/** Is it such a hidden name? */
bool partial_is_name(const char *name);
