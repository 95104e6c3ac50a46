/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Folding: an image takes over the frames of ancestors that it needs, so that these may go. It keeps its ID and its own
 * frames, in their places; those taken over follow. So what refers to it stays right.
 */

#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

#include "image/native_format.h"

struct native_fold {
        const char *path;        /* the image: replaced atomically when all is on disk, or unchanged */
        const char *destination; /* NULL: itself; else a new file, which must not exist, with an ID of its own */
        const uint8_t (*drop)[NATIVE_ID]; /* the ancestors to be independent of */
        size_t n_drop;                    /* 0: of all */
        char *const *siblings; /* paths of others that may have taken over the same: what they have is referred to */
        size_t n_siblings;
        int cancel_fd; /* polls readable: stop, -ECANCELED, nothing is changed; -EBADF: none */
};

/**
 * Every frame is checked on its way; a damaged one ends it. An image that has none of these ancestors stays as it is.
 * Of a frame of which less than half is needed only that is taken: a chain that is shortened again and again does not
 * grow.
 *
 * @return 0; -EBADMSG damaged, -ENOENT an ancestor is lost, -ENOSPC, -EBUSY, -ECANCELED: with err, nothing changed
 */
int native_fold(const struct native_fold *fold, struct st_error **err);
