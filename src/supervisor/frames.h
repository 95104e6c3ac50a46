/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Frames of protocol.h on a non-blocking socket, for both of its ends. Nothing here waits; memory is bounded by the
 * longest frame (reader) and by what the caller lets stand in a queue (writer). One thread at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "supervisor/protocol.h"

/** A frame that has come. */
struct supervisor_message {
        uint8_t kind;     /* enum supervisor_frame, or one that is not known yet: to be passed over */
        const void *data; /* inside the reader, until its next call; aligned for nothing: use memcpy */
        size_t size;      /* at most SUPERVISOR_FRAME_MAX */
};

/** What was received and not yet taken. Zero-initialise. */
struct supervisor_reader {
        char *buffer; /* SUPERVISOR_FRAME_MAX and a head; there only while a frame is incomplete or waits */
        size_t begin, end;
};

/**
 * Receives once, as much as there is room for. To be called when the socket polls readable and
 * supervisor_reader_next() has returned 0.
 *
 * @return bytes, 0 at the end of the connection, -EAGAIN, -errno
 */
ssize_t supervisor_reader_fill(struct supervisor_reader *reader, int fd);

/**
 * Takes the next frame.
 *
 * @return 1 with a frame; 0: it has not come completely; -EPROTO: this is not the protocol, close the connection
 */
int supervisor_reader_next(struct supervisor_reader *reader, struct supervisor_message *ret);

/** Copies a frame of fixed size out. @return false: it has another size */
bool supervisor_message_get(const struct supervisor_message *message, void *ret, size_t size);

void supervisor_reader_clear(struct supervisor_reader *reader);

/** What could not be sent yet. Zero-initialise. */
struct supervisor_writer {
        char *buffer;
        size_t begin, end, room;
};

/**
 * Sends a frame: what the socket takes at once without a copy, if nothing waits before it; the rest is queued. The
 * caller looks at supervisor_writer_pending() and stops, or polls for POLLOUT and calls supervisor_writer_flush().
 *
 * @param size at most SUPERVISOR_FRAME_MAX
 * @return 0, -errno: the connection is broken (-EPIPE, -ECONNRESET)
 */
int supervisor_writer_send(struct supervisor_writer *writer, int fd, enum supervisor_frame kind, const void *data,
                           size_t size);

/** Sends what waits. @return 0: all of it; 1: more waits; -errno: the connection is broken */
int supervisor_writer_flush(struct supervisor_writer *writer, int fd);

/** Bytes that wait. */
static inline size_t supervisor_writer_pending(const struct supervisor_writer *writer) {
        return writer->end - writer->begin;
}

void supervisor_writer_clear(struct supervisor_writer *writer);
