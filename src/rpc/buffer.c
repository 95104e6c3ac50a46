/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/buffer.h"

#define BUFFER_FIRST ((size_t)512)
#define BUFFER_KEEP ((size_t)64 << 10)
#define BUFFER_LIMIT ((size_t)1 << 33) /* beyond any message */

uint8_t *rpc_buffer_extend(struct rpc_buffer *buffer, size_t n) {
        size_t size = rpc_buffer_size(buffer), need, room = buffer->room ? buffer->room : BUFFER_FIRST;
        uint8_t *data;

        if (buffer->room - buffer->end >= n) {
                buffer->end += n;
                return buffer->data + buffer->end - n;
        }
        if (n > BUFFER_LIMIT - size)
                return NULL;
        need = size + n;
        if (buffer->start > 0) {
                memmove(buffer->data, buffer->data + buffer->start, size);
                buffer->start = 0;
                buffer->end = size;
        }
        while (room < need)
                room *= 2;
        if (room > buffer->room) {
                data = realloc(buffer->data, room);
                if (!data)
                        return NULL;
                buffer->data = data;
                buffer->room = room;
        }
        buffer->end = need;
        return buffer->data + size;
}

void rpc_buffer_consume(struct rpc_buffer *buffer, size_t n) {
        assert(n <= rpc_buffer_size(buffer));
        buffer->start += n;
        if (buffer->start < buffer->end)
                return;
        buffer->start = buffer->end = 0;
        if (buffer->room > BUFFER_KEEP)
                rpc_buffer_clear(buffer);
}

void rpc_buffer_clear(struct rpc_buffer *buffer) {
        free(buffer->data);
        *buffer = (struct rpc_buffer){};
}
