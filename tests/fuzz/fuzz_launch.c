/* SPDX-License-Identifier: Apache-2.0 */

/* What comes to the small programs from outside: settings of a launch, frames of a supervisor's client. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "supervisor/frames.h"
#include "supervisor/launch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is taken can be packed again, to the same meaning. */
static void parse_settings(const char *data, size_t size) {
        struct launch_parsed parsed, again;
        char *packed = NULL, *second = NULL;
        size_t packed_size, second_size;

        if (launch_parse(data, size, &parsed) < 0)
                return;
        if (launch_pack(&parsed.settings, parsed.init_path, &packed, &packed_size) < 0 ||
            launch_parse(packed, packed_size, &again) < 0 ||
            launch_pack(&again.settings, again.init_path, &second, &second_size) < 0)
                abort();
        if (packed_size != second_size || memcmp(packed, second, packed_size) != 0)
                abort();
        launch_parsed_clear(&again);
        launch_parsed_clear(&parsed);
        free(packed);
        free(second);
}

static void read_frames(const uint8_t *data, size_t size) {
        struct supervisor_reader reader = { 0 };
        struct supervisor_message message;
        size_t taken = 0;
        int fds[2], r = 0;

        if (io_socketpair(fds) < 0)
                return;
        while (r >= 0 && size > 0) {
                ssize_t n = send(fds[0], data, size < 4096 ? size : 4096, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n <= 0)
                        abort(); /* the reader takes all that comes */
                data += n;
                size -= (size_t)n;
                taken += (size_t)n;
                if (supervisor_reader_fill(&reader, fds[1]) <= 0)
                        abort();
                while ((r = supervisor_reader_next(&reader, &message)) > 0)
                        if (message.size > SUPERVISOR_FRAME_MAX || message.size > taken)
                                abort();
        }
        supervisor_reader_clear(&reader);
        close(fds[0]);
        close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        /* A copy of the exact size, so that a sanitiser sees reads behind it. */
        char *copy = malloc(size > 0 ? size : 1);

        if (!copy)
                return 0;
        memcpy(copy, data, size);
        parse_settings(copy, size);
        read_frames(data, size);
        free(copy);
        return 0;
}
