/* SPDX-License-Identifier: Apache-2.0 */

/*
 * writer HOW FILE…: works on files, each 10 ms.
 *
 *   append   writes the line "N\n" to each, N counting from 1; opened to append (O_APPEND)
 *   plain    the same, opened without
 *   update   writes the number N in 16 digits over the beginning of each (pwrite); a longer file stays as long
 *   mapped   the same through a shared mapping
 *   read     reads each to its end (tail -f)
 *
 * On SIGUSR1 it goes on slowly: once a second.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NUMBER 16

static volatile sig_atomic_t slow;

static void on_signal(int number) {
        (void)number;
        slow = 1;
}

struct target {
        int fd;
        char *map;
};

static int open_target(const char *how, const char *path, struct target *target) {
        struct stat st;
        int flags = O_RDWR | O_CREAT;

        if (strcmp(how, "append") == 0)
                flags = O_WRONLY | O_CREAT | O_APPEND;
        else if (strcmp(how, "plain") == 0)
                flags = O_WRONLY | O_CREAT;
        else if (strcmp(how, "read") == 0)
                flags = O_RDONLY;
        target->fd = open(path, flags, 0640);
        if (target->fd < 0 || fstat(target->fd, &st) < 0)
                return -1;
        if (strcmp(how, "mapped") != 0)
                return 0;
        if (st.st_size < NUMBER && ftruncate(target->fd, NUMBER) < 0)
                return -1;
        target->map = mmap(NULL, NUMBER, PROT_READ | PROT_WRITE, MAP_SHARED, target->fd, 0);
        close(target->fd);
        return target->map == MAP_FAILED ? -1 : 0;
}

static int work(const char *how, const struct target *target, unsigned long n) {
        char text[32];
        int length = snprintf(text, sizeof(text), "%lu\n", n);

        if (strcmp(how, "read") == 0) {
                while (read(target->fd, text, sizeof(text)) > 0)
                        ;
                return 0;
        }
        if (strcmp(how, "append") == 0 || strcmp(how, "plain") == 0)
                return write(target->fd, text, (size_t)length) == length ? 0 : -1;
        (void)snprintf(text, sizeof(text), "%0*lu", NUMBER, n);
        if (target->map)
                memcpy(target->map, text, NUMBER);
        else if (pwrite(target->fd, text, NUMBER, 0) != NUMBER)
                return -1;
        return 0;
}

int main(int argc, char **argv) {
        struct target *targets = calloc((size_t)argc + 1, sizeof(*targets));

        if (argc < 3 || !targets)
                return 2;
        (void)signal(SIGUSR1, on_signal);
        for (int i = 2; i < argc; i++)
                if (open_target(argv[1], argv[i], &targets[i]) < 0) {
                        perror(argv[i]);
                        return 1;
                }
        for (unsigned long n = 1;; n++) {
                const struct timespec pause = { .tv_sec = slow ? 1 : 0, .tv_nsec = slow ? 0 : 10000000 };

                for (int i = 2; i < argc; i++)
                        if (work(argv[1], &targets[i], n) < 0) {
                                perror(argv[i]);
                                return 1;
                        }
                (void)nanosleep(&pause, NULL);
        }
}
