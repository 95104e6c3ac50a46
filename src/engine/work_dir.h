/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Private directories of operations: <run dir>/w/N, with short names because they hold UNIX sockets (107 bytes,
 * unix(7)). Each has a file "lock", held by flock(2) as long as a process of the operation lives (CRIU inherits it),
 * and maybe a file "partial": hidden paths of what is being written for a checkpoint, a NUL behind each. So whoever
 * comes after a crash can tell what is stale, and removes both.
 */

#include <stasis/error.h>

#include "base/text.h"

/* The file in it that names the job the operation is about; none: it is about no job. Written by the daemon. */
#define WORK_DIR_JOB "job"

/** Makes one. @param ret its path, malloc'ed */
int work_dir_new(char **ret, struct st_error **err);

/** Takes the lock for this process and those that inherit the descriptor. @return the descriptor or -errno with err */
int work_dir_lock(const char *work_dir, struct st_error **err);

/** Records a hidden path, which must not exist yet, before it is made. */
int work_dir_record_partial(const char *work_dir, const char *path, struct st_error **err);

/**
 * Removes the directory, what it recorded, and what is mounted below it.
 *
 * @return 0; -EBUSY while its lock is held or somebody writes to it; -errno
 */
int work_dir_clean(const char *work_dir);

/**
 * Cleans all that nobody uses any more: what a crash or kill -9 left.
 *
 * @param ret_busy those that are still in use are added; may be NULL
 */
void work_dir_clean_stale(struct strv *ret_busy);
