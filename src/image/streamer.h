/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The protocol of CRIU's image streamer (criu/img-streamer.c, images/img-streamer.proto of CRIU 4.2.1), our side of
 * it: over one UNIX stream connection CRIU sends for each file u32 length + a message with one field (1: the file's
 * name), and then one byte with a pipe. A streamer that serves answers in between whether the file exists.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

#define STREAMER_CAPTURE_SOCKET "streamer-capture.sock"
#define STREAMER_SERVE_SOCKET "streamer-serve.sock"

/** One connection and what came of the message that is under way. Initialise with { .socket = fd }. */
struct streamer {
        int socket;
        size_t have; /* bytes of the message, its length included */
        uint8_t message[4 + 512];
};

/** Listens in CRIU's images directory. @param ret_path malloc'ed, to be unlinked @return descriptor, -errno with err */
int streamer_listen(const char *work_dir, const char *name, char **ret_path, struct st_error **err);

/**
 * Takes what has come of the next request; never waits.
 *
 * @param ret the file's name, malloc'ed, when the result is 1
 * @return 1; 0 at the connection's end; -EAGAIN: not complete yet; other negative errno with err (not CRIU's protocol)
 */
int streamer_receive_name(struct streamer *streamer, char **ret, struct st_error **err);

/** Takes the pipe that follows a name; never waits. @return descriptor; -EAGAIN; other negative errno with err */
int streamer_receive_pipe(struct streamer *streamer, struct st_error **err);

/** Answers whether the file exists. @return 0 or -errno */
int streamer_reply(struct streamer *streamer, bool exists);

/** Does a file hold pages of memory? These are large, are read in order and by read(2) only (criu/pagemap.c). */
bool streamer_is_pages(const char *name);

/** Raises a pipe's size to at most `size`, less when that is not permitted. @return its size, bytes, or -errno */
int streamer_grow_pipe(int pipe_fd, int size);
