/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Serving: be the image streamer of `criu restore --stream`. CRIU connects to streamer-serve.sock in its images
 * directory and asks for files by name. Everything is verified on the way: the last block of a file is held back until
 * its hash is right, so that CRIU fails before a process runs on damaged data.
 */

#include <stdint.h>

#include <stasis/error.h>

#include "image/image.h"

struct serve;

/**
 * Listens in work_dir and starts serving an image from threads of its own. The image must outlive it.
 *
 * @param budget bytes of memory for files that arrive before CRIU asks for them (archives)
 * @param spill_dir where an unnamed temporary file is made beyond the budget
 */
int serve_start(struct image *image, const char *work_dir, uint64_t budget, const char *spill_dir,
                void (*progress)(uint64_t done, uint64_t total, void *userdata), void *userdata, struct serve **ret,
                struct st_error **err);

/** Stops at once; CRIU's reads end early, it fails. Any thread; idempotent. */
void serve_abort(struct serve *serve);

/**
 * Waits for the threads (CRIU must have ended, or serve_abort() been called) and frees the server.
 *
 * @return 0, also when CRIU died; -EBADMSG when damage was found, naming the file: the root cause of whatever CRIU
 * said; -ECANCELED after serve_abort(); other -errno with err
 */
int serve_finish(struct serve *serve, struct st_error **err);
