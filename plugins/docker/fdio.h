/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reading and writing descriptors so that a cancellation is noticed: between any two steps, and while a pipe or socket
 * makes us wait. `cancel_fd` is cancelled when it becomes readable or is hung up; -1 for none. Errors: -ECANCELED, or
 * the errno of the call.
 */

#include <stddef.h>
#include <sys/types.h>

#include <stasis/error.h>

/** @return -ECANCELED with an error when cancel_fd says so, else 0 */
int fdio_check(int cancel_fd, struct st_error **err);

/** Writes all of it. What it is, for the error: "cannot write the file changes: No space left on device". */
int fdio_write(int fd, const void *data, size_t size, int cancel_fd, const char *what, struct st_error **err);

/** Reads what there is, at most size. @return the number of bytes, 0 at the end */
ssize_t fdio_read(int fd, void *data, size_t size, int cancel_fd, const char *what, struct st_error **err);

/**
 * To an error that says that a file system is full (ENOSPC, EDQUOT): the hint which one it is, by a descriptor on it.
 * No-op with another error.
 */
void fdio_hint_full(int fd, struct st_error **err);
