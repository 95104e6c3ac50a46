/* SPDX-License-Identifier: Apache-2.0 */

/* 64 threads, each counting; every 50 ms the main thread writes a line: how many threads moved since the last one. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 64

static atomic_ulong counters[THREADS];

static void *count(void *counter) {
        for (;;) {
                atomic_fetch_add((atomic_ulong *)counter, 1);
                usleep(1000);
        }
        return NULL;
}

int main(int argc, char **argv) {
        unsigned long last[THREADS] = { 0 };

        if (argc != 2)
                return 2;
        for (int i = 0; i < THREADS; i++) {
                pthread_t thread;
                if (pthread_create(&thread, NULL, count, &counters[i]) != 0)
                        return 1;
        }
        for (unsigned line = 1;; line++) {
                int moved = 0;

                usleep(50000);
                for (int i = 0; i < THREADS; i++) {
                        unsigned long now = atomic_load(&counters[i]);
                        moved += now > last[i];
                        last[i] = now;
                }
                FILE *f = fopen(argv[1], "a");
                if (!f)
                        return 1;
                fprintf(f, "%u %d\n", line, moved);
                fclose(f);
        }
}
