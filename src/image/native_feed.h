/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The bytes of a file of a native image, in order, by reference: threads of its own decode the frames that come next
 * into a few buffers, while one caller takes what is ready. A frame is checked before any byte of it is given out.
 */

#include <stdint.h>
#include <sys/types.h>

#include "image/native.h"

struct native_feed;

/**
 * Begins decoding.
 *
 * @param file must outlive it, as the native must
 * @param threads that decode, at least 1
 * @param memory for decoded frames, bytes; a few frames are always kept
 * @return 0; -ENOMEM, -EAGAIN: no memory, no threads
 */
int native_feed_new(const struct native *native, const struct native_file *file, unsigned threads, uint64_t memory,
                    struct native_feed **ret);
/** Ends the threads. What was lent stays readable in pipes only. @return NULL */
struct native_feed *native_feed_free(struct native_feed *feed);

/**
 * What comes next: at most `most` bytes in a row, which stay until they are taken.
 *
 * @return how many; 0: nothing is left; -EAGAIN: it is not decoded yet, after a millisecond's wait; -EBADMSG: damage;
 * other -errno with err, once
 */
ssize_t native_feed_peek(struct native_feed *feed, size_t most, const uint8_t **ret, struct st_error **err);
/** The same without waiting and without errors: 0 when there is nothing at once. */
size_t native_feed_ready(struct native_feed *feed, size_t most, const uint8_t **ret);

/**
 * Goes on behind the first `length` bytes of what was seen.
 *
 * @param until 0: the bytes are not needed any more; else they are lent until native_feed_consumed() has come so far
 */
void native_feed_take(struct native_feed *feed, size_t length, uint64_t until);

/** What was lent until here, or less, is not needed any more. */
void native_feed_consumed(struct native_feed *feed, uint64_t position);
