/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reading files of a native image from their beginning on, by one thread. The frames that were decoded last stay in
 * memory, so that files beside each other, and pages of several frames in turn, decode each frame about once.
 */

#include <sys/types.h>

#include "image/native.h"

struct native_reader;

/** The native must outlive it. */
struct native_reader *native_reader_new(const struct native *native);
struct native_reader *native_reader_free(struct native_reader *reader);
static inline void native_reader_freep(struct native_reader **reader) {
        *reader = native_reader_free(*reader);
}

/** Stands at the beginning of a file, which must outlive the reading of it. */
void native_reader_begin(struct native_reader *reader, const struct native_file *file);

/** Reads up to n bytes. @return how many, 0 at the end of the file only; -EBADMSG: damage; other -errno with err */
ssize_t native_reader_read(struct native_reader *reader, void *buffer, size_t n, struct st_error **err);
