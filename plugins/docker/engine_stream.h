/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The streams of a container by POST /containers/ID/attach: a connection that the engine turns into one of bytes, and
 * what is in it (https://docs.docker.com/reference/api/engine/, "Attach to a container"). One thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine.h"

struct engine_stream;

/** Attaches to a container, which need not run yet. Takes ENGINE_SHORT at most. @param input its stdin, too */
int engine_stream_open(struct engine *engine, const char *container, bool input, struct engine_stream **ret,
                       struct st_error **err);
struct engine_stream *engine_stream_close(struct engine_stream *stream);

/** For poll(2). What TLS has read already is not seen by it: read until -EAGAIN. */
int engine_stream_fd(const struct engine_stream *stream);

/** @return bytes; 0: the end, also by an error; -EAGAIN: nothing yet */
ssize_t engine_stream_read(struct engine_stream *stream, void *data, size_t size);
/** @return bytes taken; -EAGAIN; -EPIPE: nobody takes any more */
ssize_t engine_stream_write(struct engine_stream *stream, const void *data, size_t size);
/** The end of the container's input; with TLS there is no such thing. */
void engine_stream_end_input(struct engine_stream *stream);

/** Where the bytes of a container without a terminal belong: frames of an 8-byte head and its payload. { 0 } */
struct engine_frames {
        uint8_t head[8];
        size_t have; /* bytes of the head */
        uint32_t left;
};

/**
 * Takes the next part of what was read apart.
 *
 * @param ret_stream 1: stdout, 2: stderr
 * @param ret_at, ret_n the part of the payload; *ret_n 0: none yet
 * @return how many bytes of `data` are done with
 */
size_t engine_frames_take(struct engine_frames *frames, const uint8_t *data, size_t size, int *ret_stream,
                          const uint8_t **ret_at, size_t *ret_n);
