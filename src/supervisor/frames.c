/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/frames.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/memory.h"

#define READER_ROOM (sizeof(struct supervisor_frame_head) + SUPERVISOR_FRAME_MAX)

ssize_t supervisor_reader_fill(struct supervisor_reader *reader, int fd) {
        ssize_t n;

        if (!reader->buffer)
                reader->buffer = xmalloc(READER_ROOM);
        if (reader->begin > 0) {
                memmove(reader->buffer, reader->buffer + reader->begin, reader->end - reader->begin);
                reader->end -= reader->begin;
                reader->begin = 0;
        }
        assert(reader->end < READER_ROOM); /* a whole frame waits to be taken */
        do
                n = recv(fd, reader->buffer + reader->end, READER_ROOM - reader->end, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                n = -errno;
        if (n > 0)
                reader->end += (size_t)n;
        else if (reader->end == 0)
                supervisor_reader_clear(reader);
        return n;
}

int supervisor_reader_next(struct supervisor_reader *reader, struct supervisor_message *ret) {
        size_t there = reader->end - reader->begin;
        struct supervisor_frame_head head;

        if (there == 0)
                supervisor_reader_clear(reader);
        if (there < sizeof(head))
                return 0;
        memcpy(&head, reader->buffer + reader->begin, sizeof(head));
        if (head.size > SUPERVISOR_FRAME_MAX || head.zero[0] || head.zero[1] || head.zero[2])
                return -EPROTO;
        if (there < sizeof(head) + head.size)
                return 0;
        *ret = (struct supervisor_message){
                .kind = head.kind,
                .data = reader->buffer + reader->begin + sizeof(head),
                .size = head.size,
        };
        reader->begin += sizeof(head) + head.size;
        return 1;
}

bool supervisor_message_get(const struct supervisor_message *message, void *ret, size_t size) {
        if (message->size != size)
                return false;
        memcpy(ret, message->data, size);
        return true;
}

void supervisor_reader_clear(struct supervisor_reader *reader) {
        free(reader->buffer);
        *reader = (struct supervisor_reader){ 0 };
}

static void append(struct supervisor_writer *writer, const void *data, size_t size) {
        size_t pending = supervisor_writer_pending(writer);

        if (size == 0)
                return;
        if (writer->end + size > writer->room) {
                if (writer->begin > 0)
                        memmove(writer->buffer, writer->buffer + writer->begin, pending);
                writer->begin = 0;
                writer->end = pending;
                if (pending + size > writer->room) {
                        writer->room = pending + size > 2 * writer->room ? pending + size : 2 * writer->room;
                        writer->buffer = xrealloc(writer->buffer, writer->room, 1);
                }
        }
        memcpy(writer->buffer + writer->end, data, size);
        writer->end += size;
}

int supervisor_writer_send(struct supervisor_writer *writer, int fd, enum supervisor_frame kind, const void *data,
                           size_t size) {
        struct supervisor_frame_head head = supervisor_head(kind, size);
        struct iovec parts[] = {
                { .iov_base = &head, .iov_len = sizeof(head) },
                { .iov_base = (void *)data, .iov_len = size },
        };
        const struct msghdr message = { .msg_iov = parts, .msg_iovlen = size > 0 ? 2 : 1 };
        ssize_t n = 0;

        assert(size <= SUPERVISOR_FRAME_MAX);
        if (supervisor_writer_pending(writer) == 0) {
                do
                        n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
                while (n < 0 && errno == EINTR);
                if (n < 0 && errno != EAGAIN)
                        return -errno;
                if (n < 0)
                        n = 0;
        }

        size_t sent = (size_t)n;
        if (sent < sizeof(head)) {
                append(writer, (const char *)&head + sent, sizeof(head) - sent);
                sent = sizeof(head);
        }
        append(writer, (const char *)data + (sent - sizeof(head)), sizeof(head) + size - sent);
        return 0;
}

int supervisor_writer_flush(struct supervisor_writer *writer, int fd) {
        while (supervisor_writer_pending(writer) > 0) {
                ssize_t n = send(fd, writer->buffer + writer->begin, supervisor_writer_pending(writer),
                                 MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 1 : -errno;
                writer->begin += (size_t)n;
        }
        supervisor_writer_clear(writer);
        return 0;
}

void supervisor_writer_clear(struct supervisor_writer *writer) {
        free(writer->buffer);
        *writer = (struct supervisor_writer){ 0 };
}
