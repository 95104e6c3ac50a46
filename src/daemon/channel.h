/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Frames between a worker and the daemon: a 32-bit length in host order, then a packed stasis.worker.Report. In the
 * other direction the daemon sends one 32-bit errno to cancel (ECANCELED, ETIMEDOUT), and the end of the connection
 * tells that it is gone.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

#include <stasis/v1/worker.pb-c.h>

/** A report is at most this long; the largest are answers with the state of a huge tree. */
#define CHANNEL_FRAME_MAX (64u << 20)

/** A frame, ready to be sent; malloc'ed. */
uint8_t *channel_pack(const Stasis__Worker__Report *report, size_t *ret_size);

/** Frames that arrive piece by piece. Zero-initialise; channel_buffer_clear() frees it. */
struct channel_buffer {
        uint8_t *data;
        size_t n, room;
};

/**
 * Reads what a non-blocking socket has.
 *
 * @return bytes read, 0 at the end, -EAGAIN, -errno
 */
ssize_t channel_receive(struct channel_buffer *buffer, int fd);

/**
 * Takes the next whole frame out of the buffer.
 *
 * @param ret a heap message; free with message_freep()
 * @return 1 with a report, 0 when none is complete, -EBADMSG for what is no frame
 */
int channel_next(struct channel_buffer *buffer, Stasis__Worker__Report **ret);

void channel_buffer_clear(struct channel_buffer *buffer);
