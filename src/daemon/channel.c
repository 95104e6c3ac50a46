/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/channel.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"

#define HEADER sizeof(uint32_t)
#define READ_SIZE 65536

uint8_t *channel_pack(const Stasis__Worker__Report *report, size_t *ret_size) {
        size_t size = protobuf_c_message_get_packed_size(&report->base);
        uint32_t length = (uint32_t)size;
        uint8_t *frame = xmalloc(HEADER + size);

        memcpy(frame, &length, HEADER);
        protobuf_c_message_pack(&report->base, frame + HEADER);
        *ret_size = HEADER + size;
        return frame;
}

ssize_t channel_receive(struct channel_buffer *buffer, int fd) {
        ssize_t n;

        while (buffer->room - buffer->n < READ_SIZE) {
                buffer->room = buffer->room ? buffer->room * 2 : 2 * (size_t)READ_SIZE;
                buffer->data = xrealloc(buffer->data, buffer->room, 1);
        }
        do
                n = read(fd, buffer->data + buffer->n, READ_SIZE);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        buffer->n += (size_t)n;
        return n;
}

int channel_next(struct channel_buffer *buffer, Stasis__Worker__Report **ret) {
        uint32_t length;

        if (buffer->n < HEADER)
                return 0;
        memcpy(&length, buffer->data, HEADER);
        if (length > CHANNEL_FRAME_MAX)
                return -EBADMSG;
        if (buffer->n < HEADER + length)
                return 0;

        *ret = stasis__worker__report__unpack(NULL, length, buffer->data + HEADER);
        buffer->n -= HEADER + length;
        memmove(buffer->data, buffer->data + HEADER + length, buffer->n);
        return *ret ? 1 : -EBADMSG;
}

void channel_buffer_clear(struct channel_buffer *buffer) {
        free(buffer->data);
        *buffer = (struct channel_buffer){ 0 };
}
