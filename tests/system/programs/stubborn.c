/* SPDX-License-Identifier: Apache-2.0 */

/*
 * stubborn vfork FILE: a process that no signal stops, because it waits for a child of vfork(2) that never execs, and
 * another child that appends a line to FILE every 10 ms.
 *
 * stubborn storm FILE: makes children without an end, each of which makes one more; each appends a line to FILE.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void append(const char *file) {
        int fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0 || write(fd, "x\n", 2) != 2)
                _exit(1);
        close(fd);
}

static void wait_for_nothing(const char *file) {
        if (fork() == 0)
                for (;;) {
                        append(file);
                        usleep(10000);
                }
        if (vfork() == 0) // NOLINT: the child that keeps its parent waiting is what this program is for
                for (;;)
                        pause();
        _exit(1);
}

static void storm(const char *file) {
        for (;;) {
                while (waitpid(-1, NULL, WNOHANG) > 0)
                        ;
                if (fork() == 0) {
                        if (fork() == 0) {
                                append(file);
                                _exit(0);
                        }
                        (void)wait(NULL);
                        _exit(0);
                }
                usleep(1000);
        }
}

int main(int argc, char **argv) {
        if (argc != 3)
                return 2;
        if (strcmp(argv[1], "vfork") == 0)
                wait_for_nothing(argv[2]);
        else if (strcmp(argv[1], "storm") == 0)
                storm(argv[2]);
        return 2;
}
