/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A queue of bytes in one piece of memory: appended at the end, consumed at the start. */

#include <stddef.h>
#include <stdint.h>

/** Zero-initialise; free with rpc_buffer_clear(). */
struct rpc_buffer {
        uint8_t *data;
        size_t start, end, room;
};

static inline size_t rpc_buffer_size(const struct rpc_buffer *buffer) {
        return buffer->end - buffer->start;
}

static inline const uint8_t *rpc_buffer_bytes(const struct rpc_buffer *buffer) {
        return buffer->data + buffer->start;
}

/** Appends n bytes that the caller is to fill. @return where they are; NULL when there is no memory, nothing changed */
uint8_t *rpc_buffer_extend(struct rpc_buffer *buffer, size_t n);

/** Takes n bytes away from the start; an empty buffer gives large memory back. */
void rpc_buffer_consume(struct rpc_buffer *buffer, size_t n);

void rpc_buffer_clear(struct rpc_buffer *buffer);
