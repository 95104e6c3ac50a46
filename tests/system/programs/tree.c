/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A tree of three processes: a server on a named UNIX socket, a client of it, and the parent, which talks with the
 * client over a socketpair. A token goes round; each hop increments a counter in shared memory. The parent writes
 * "round counter" lines.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <signal.h>
#include <unistd.h>

static unsigned long *counter;

static void die(const char *what) {
        perror(what);
        exit(1);
}

static void serve(int listener) {
        unsigned long token;
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
                die("accept");
        while (read(fd, &token, sizeof(token)) == sizeof(token)) {
                (*counter)++;
                if (write(fd, &token, sizeof(token)) != sizeof(token))
                        break;
        }
        exit(0);
}

static void relay(const struct sockaddr_un *address, int parent) {
        unsigned long token;
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
                die("connect");
        while (read(parent, &token, sizeof(token)) == sizeof(token)) {
                (*counter)++;
                if (write(fd, &token, sizeof(token)) != sizeof(token) ||
                    read(fd, &token, sizeof(token)) != sizeof(token) ||
                    write(parent, &token, sizeof(token)) != sizeof(token))
                        break;
        }
        exit(0);
}

int main(int argc, char **argv) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int pair[2], listener;

        if (argc != 3 || strlen(argv[1]) >= sizeof(address.sun_path))
                return 2;
        memcpy(address.sun_path, argv[1], strlen(argv[1]));
        counter = mmap(NULL, sizeof(*counter), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        listener = socket(AF_UNIX, SOCK_STREAM, 0);
        if (counter == MAP_FAILED || listener < 0 ||
            bind(listener, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 1) < 0 ||
            socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
                die("setup");

        if (fork() == 0)
                serve(listener);
        if (fork() == 0)
                relay(&address, pair[1]);
        for (unsigned long round = 1;; round++) {
                unsigned long token = round;

                if (write(pair[0], &token, sizeof(token)) != sizeof(token) ||
                    read(pair[0], &token, sizeof(token)) != sizeof(token) || token != round)
                        return 1;
                FILE *f = fopen(argv[2], "a");
                if (!f)
                        return 1;
                fprintf(f, "%lu %lu\n", round, *counter);
                fclose(f);
                usleep(20000);
        }
}
