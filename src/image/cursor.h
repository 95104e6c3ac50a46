/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A checkpoint read from its first file to its last, in the order of the manifest, whatever its format. Several cursors
 * may go over one image, in different threads too. What was replaced by image_override() is not looked at.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

#include "image/image.h"
#include "image/manifest.h"

struct cursor;

/** Stands before the first file. The image must outlive it. @return 0 or a negative errno with err */
int cursor_new(struct image *image, struct cursor **ret, struct st_error **err);

/** Makes cursor_next() go to the index-th file; not of archives: these have to be read from their beginning. */
void cursor_go_to(struct cursor *cursor, size_t index);

/** @return NULL */
struct cursor *cursor_free(struct cursor *cursor);
static inline void cursor_freep(struct cursor **cursor) {
        *cursor = cursor_free(*cursor);
}

/** Number of the file that cursor_next() will go to. */
size_t cursor_position(const struct cursor *cursor);

/** Goes to the beginning of the next file. @return 1; 0 after the last; a negative errno with err */
int cursor_next(struct cursor *cursor, const struct manifest_entry **ret, struct st_error **err);

/** Reads up to n bytes of the file. @return how many, 0 at its end, a negative errno with err */
ssize_t cursor_read(struct cursor *cursor, void *buffer, size_t n, struct st_error **err);

/**
 * Reads the file, from its beginning, and checks its hash when the image has hashes.
 *
 * @param take called for each piece; its result ends the reading when it is negative; NULL: only check
 * @param cancel_fd readable: -ECANCELED; -EBADF: none
 */
int cursor_read_all(struct cursor *cursor,
                    int (*take)(void *userdata, const void *data, size_t n, struct st_error **err), void *userdata,
                    int cancel_fd, struct st_error **err);

/** After the last file: is what is around the files as it was written? Only archives have such. @return 0, -EBADMSG */
int cursor_end(struct cursor *cursor, struct st_error **err);
