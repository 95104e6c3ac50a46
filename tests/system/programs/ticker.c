/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ticker MIB FILE: holds MIB of memory (64 KiB of random bytes and 64 KiB of text in turn) and looks at the clock every
 * 200 µs. On SIGUSR1 it writes "gap_us checksum" to FILE: its longest stall since the last signal, and whether its
 * memory is intact.
 */

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUN 65536

static volatile sig_atomic_t asked;

static void on_signal(int number) {
        (void)number;
        asked = 1;
}

static uint64_t now_us(void) {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void fill(uint64_t *memory, size_t bytes) {
        uint64_t x = 88172645463325252u;

        for (size_t i = 0; i < bytes / sizeof(*memory); i++) {
                x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                memory[i] = (i * sizeof(*memory) / RUN) % 2 ? 0x2065676174612061u + (x & 0x0f0f) : x;
        }
}

static uint64_t checksum(const uint64_t *memory, size_t bytes) {
        uint64_t sum = 0;

        for (size_t i = 0; i < bytes / sizeof(*memory); i++)
                sum = sum * 31 + memory[i];
        return sum;
}

int main(int argc, char **argv) {
        size_t bytes = argc == 3 ? strtoull(argv[1], NULL, 10) << 20 : 0;
        uint64_t *memory = malloc(bytes + RUN);
        uint64_t last, gap = 0, expected;

        if (argc != 3 || !memory)
                return 2;
        fill(memory, bytes);
        expected = checksum(memory, bytes);
        signal(SIGUSR1, on_signal);
        for (last = now_us();;) {
                const struct timespec pause = { .tv_nsec = 200000 };
                uint64_t now;

                nanosleep(&pause, NULL);
                now = now_us();
                if (now - last > gap)
                        gap = now - last;
                if (asked) {
                        asked = 0; /* first: who reads the file may ask again at once */
                        FILE *f = fopen(argv[2], "w");
                        if (!f)
                                return 1;
                        fprintf(f, "%llu %s\n", (unsigned long long)gap,
                                checksum(memory, bytes) == expected ? "intact" : "damaged");
                        fclose(f);
                        gap = 0;
                        now = now_us();
                }
                last = now;
        }
}
