/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A computation whose result shows what was lost or done twice: adder RESULT TRACE STEPS MILLISECONDS. Each step takes
 * so long, and appends "STEP VALUE" to RESULT, which stays open, where the value follows from all those before; and
 * STEP to TRACE, which is opened for that alone, so that no rollback of files touches it. Ends with code 7.
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
        uint64_t value = 1;
        int result;

        if (argc != 5)
                return 2;
        result = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (result < 0)
                return 1;
        for (long step = 1; step <= atol(argv[3]); step++) {
                int trace = open(argv[2], O_WRONLY | O_CREAT | O_APPEND, 0600);

                if (trace < 0 || dprintf(trace, "%ld\n", step) < 0)
                        return 1;
                close(trace);
                value = (value * 48271 + (uint64_t)step) % 2147483647;
                if (dprintf(result, "%ld %lu\n", step, (unsigned long)value) < 0)
                        return 1;
                usleep((useconds_t)atol(argv[4]) * 1000);
        }
        return 7;
}
