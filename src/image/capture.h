/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Capture: be CRIU's image streamer (`criu dump --stream`). CRIU connects to streamer-capture.sock in its images
 * directory, and for each file sends its name and a pipe. A thread of ours copies the pipes into a store, nothing else:
 * the target is frozen.
 */

#include <stasis/error.h>

#include "image/store.h"

struct capture;

/**
 * Listens in work_dir and starts the thread. The store belongs to the thread until capture_finish().
 *
 * @param progress may be NULL; called on the thread now and then with the bytes captured so far
 */
int capture_start(const char *work_dir, struct store *store, void (*progress)(uint64_t bytes, void *userdata),
                  void *userdata, struct capture **ret, struct st_error **err);

/** Polls readable when the thread has ended early: by an error (disk full) or because CRIU closed its side. */
int capture_fd(const struct capture *capture);

/**
 * Waits until every pipe that CRIU handed over has been read to its end, while CRIU is still there (at its post-dump
 * hook, when all files are written). Needed for every dump whose target runs on: pages in a pipe are references to the
 * target's memory, not copies, and change with it after the thaw. @return 0, -ETIMEDOUT or the thread's error
 */
int capture_drain(struct capture *capture, int timeout_ms, struct st_error **err);

/** Closes all pipes and sockets at once: CRIU fails, rolls back, and the target runs on. Any thread; idempotent. */
void capture_abort(struct capture *capture);

/**
 * Waits for the thread's end (CRIU must have ended, or capture_abort() been called) and frees the capture.
 *
 * @return 0 when everything that was announced has been captured wholly; -ESTALE when pages were read after CRIU had
 * gone, and the target ran on (reads just before that are not noticed: see capture_drain()); other -errno with err
 */
int capture_finish(struct capture *capture, struct st_error **err);
