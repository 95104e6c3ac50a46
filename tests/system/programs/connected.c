/* SPDX-License-Identifier: Apache-2.0 */

/*
 * connected MIB FILE: holds MIB of memory and a TCP connection to itself. Every 5 ms it sends a number over the
 * connection and back, looks through all its memory, and appends the number to FILE: 1, 2, 3 …, one a line. When
 * something is not as it was it appends what, and ends.
 */

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/** What belongs at a place of the memory: not to be compressed much. */
static uint64_t pattern(size_t i) {
        uint64_t x = i * 0x9e3779b97f4a7c15u;
        return x ^ x >> 29;
}

static bool is_intact(const uint64_t *memory, size_t words) {
        uint64_t wrong = 0;

        for (size_t i = 0; i < words; i++)
                wrong |= memory[i] ^ pattern(i);
        return wrong == 0;
}

/** @return 0, the two ends of a connection in ends */
static int connect_to_self(int ends[2]) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(address);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (listener < 0 || ends[0] < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 ||
            listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0 ||
            connect(ends[0], (struct sockaddr *)&address, size) < 0)
                return -1;
        ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        close(listener);
        return ends[1] < 0 ? -1 : 0;
}

/** Sends a number from one end to the other. */
static bool passes(int from, int to, uint64_t number) {
        uint64_t got = 0;

        return send(from, &number, sizeof(number), MSG_NOSIGNAL) == (ssize_t)sizeof(number) &&
               recv(to, &got, sizeof(got), MSG_WAITALL) == (ssize_t)sizeof(got) && got == number;
}

int main(int argc, char **argv) {
        const struct timespec pause = { .tv_nsec = 5000000 };
        size_t bytes = argc == 3 ? strtoull(argv[1], NULL, 10) << 20 : 0;
        uint64_t *memory;
        int ends[2], file;

        if (bytes == 0)
                return 2;
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        file = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (memory == MAP_FAILED || file < 0 || connect_to_self(ends) < 0)
                return 1;
        for (size_t i = 0; i < bytes / sizeof(*memory); i++)
                memory[i] = pattern(i);

        for (uint64_t number = 1;; number++) {
                const char *wrong = !is_intact(memory, bytes / sizeof(*memory)) ? "the memory is damaged"
                                    : !passes(ends[0], ends[1], number) || !passes(ends[1], ends[0], number)
                                            ? "the connection is broken"
                                            : NULL;
                if (wrong) {
                        dprintf(file, "%s\n", wrong);
                        return 1;
                }
                if (dprintf(file, "%llu\n", (unsigned long long)number) < 0)
                        return 1;
                nanosleep(&pause, NULL);
        }
}
