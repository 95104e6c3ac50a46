/* SPDX-License-Identifier: Apache-2.0 */

/* CRIU's log: it quotes what the target chose, names of files and sockets. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "criu/criu.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char *log = malloc(size + 1), *cause = NULL, *hint = NULL;

        if (!log)
                return 0;
        if (size > 0)
                memcpy(log, data, size);
        log[size] = '\0';
        criu_digest(log, &cause, &hint);
        if (!cause && hint)
                abort();
        /* Both are shown on one line of a terminal. */
        for (const char *c = cause ? cause : ""; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        abort();
        for (const char *c = hint ? hint : ""; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        abort();
        free(log);
        free(cause);
        free(hint);
        return 0;
}
