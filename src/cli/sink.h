/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One of our output streams, for bytes that come from elsewhere while other things must go on: what it does not take at
 * once waits. Other processes that share the stream notice nothing: it is not made non-blocking for them.
 */

#include <stddef.h>

#include "rpc/buffer.h"

/** Zero-initialise; sink_open(); free with sink_close(). */
struct sink {
        int fd;  /* the stream */
        int own; /* a description of our own of the same pipe or terminal; -EBADF: none */
        int (*write)(struct sink *sink, const void *data, size_t n);
        struct rpc_buffer pending; /* not taken yet */
        int error;                 /* negative errno of the first failure: nothing is written after it */
};

void sink_open(struct sink *sink, int fd);
void sink_close(struct sink *sink);

/** Writes, or keeps what is not taken. @return 0 or the -errno of the first failure (-EPIPE: nobody reads) */
int sink_put(struct sink *sink, const void *data, size_t n);

/** Writes of what waits as much as is taken. @return as sink_put() */
int sink_push(struct sink *sink);

/** @return the descriptor that polls writable when what waits can go on; -1 when nothing waits */
int sink_wants(const struct sink *sink);
