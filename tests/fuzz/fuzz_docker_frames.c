/* SPDX-License-Identifier: Apache-2.0 */

/* The output of a container as its engine sends it. The first byte says in pieces of which size it comes. */

#include <stdint.h>
#include <stdlib.h>

#include "../../plugins/docker/engine_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct engine_frames frames = { 0 };
        size_t piece;

        if (size < 1)
                return 0;
        piece = data[0] ? data[0] : 256;
        for (size_t at = 1; at < size;) {
                size_t left = size - at, n = 0;
                const uint8_t *payload = NULL;
                int stream = 0;
                size_t given = left < piece ? left : piece;
                size_t done = engine_frames_take(&frames, data + at, given, &stream, &payload, &n);

                if (done == 0 || done > given || n > done || payload + n != data + at + done ||
                    (stream != 1 && stream != 2))
                        abort();
                at += done;
        }
        return 0;
}
