/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Between an operation and the tracker (write_tracker.h), both of one program, over a stream: a request, then an
 * int32_t: 0 or 1 or a negative errno. After that of TRACKER_PROCESS, when it is 0, the descriptor (io_send_fd()).
 */

#include <stdbool.h>
#include <stdint.h>

#include "image/native_format.h"

#define TRACKER_LISTENER_FD 3

enum tracker_request_kind {
        TRACKER_BEGIN,   /* forget whose it is; 1: it was the checkpoint's */
        TRACKER_PROCESS, /* watch it */
        TRACKER_COMMIT,  /* it is the checkpoint's */
};

struct tracker_request {
        uint32_t kind;
        int32_t pid; /* of TRACKER_PROCESS */
        uint64_t start_time;
        bool has_checkpoint;
        uint8_t checkpoint[NATIVE_ID];
};
