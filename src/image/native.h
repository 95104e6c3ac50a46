/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A native image (docs/image-format.md) opened for reading, with all its ancestors: files by name, and any frame by
 * itself, by any number of threads at once.
 */

#include <stdint.h>

#include <stasis/error.h>

#include "image/native_format.h"

/** A file that frames are read from: the image itself, source 0, or an ancestor. */
struct native_source {
        char *path; /* where it was found */
        int fd;
        struct native_header header;
        struct native_footer footer;
        /* Of an ancestor all it has now; the first ancestors[i].n_frames are those that may be referred to. */
        struct native_frame *frames;
        uint32_t n_frames;
};

struct native {
        struct native_index index;     /* of the image; its frames are sources[0].frames, too */
        struct native_source *sources; /* 1 + index.n_ancestors; 1 when it was opened alone */
        uint32_t n_sources;
        const struct native_file **by_name; /* sorted */
};

/**
 * Reads footer, header and index, finds the ancestors and checks that they are who they shall be, and that all runs
 * stay inside their frames. No frame is read.
 *
 * @param fd of the image; the native takes a duplicate
 * @param path of the image, for messages, and to find its ancestors beside it
 * @return 0; -EBADMSG damaged, the image or an ancestor; -EOPNOTSUPP another version; -ENOENT an ancestor is lost,
 * -ESTALE it was changed: naming both, and what to do; or the image was replaced since it was opened: open it again
 */
int native_open(const char *path, int fd, struct native **ret, struct st_error **err);
/** The same without the ancestors: only what the image itself holds can be read. For listing, deleting, folding. */
int native_open_alone(const char *path, int fd, struct native **ret, struct st_error **err);
struct native *native_free(struct native *native);
static inline void native_freep(struct native **native) {
        *native = native_free(*native);
}

/** @return NULL: there is no such file */
const struct native_file *native_find(const struct native *native, const char *name);

/**
 * Reads a frame of a source, checks its digest, decodes it. Any thread, with a coder and a buffer of its own.
 *
 * @param out room for the decoded size, at most NATIVE_FRAME_MAX
 * @param stored room for NATIVE_STORED_MAX bytes, used on the way
 * @return 0; -EBADMSG: damaged, naming file, frame and offset; -errno
 */
int native_read_frame(const struct native *native, uint32_t source, uint32_t frame, struct native_coder *coder,
                      uint8_t *stored, uint8_t *out, struct st_error **err);

/** The page digests of a source, checked: 16 bytes for each page of its frames of pages, in order. malloc'ed */
int native_read_digests(const struct native *native, uint32_t source, uint8_t **ret, size_t *ret_pages,
                        struct st_error **err);
