/* SPDX-License-Identifier: Apache-2.0 */

/*
 * generations MIB FILE: two threads rewrite MIB of memory, page by page and as fast as they can, each its own half. A
 * page holds the number of its round at its begin and its end. Before a thread writes round N it looks whether N - 1 is
 * there: only then memory and thread are of the same moment. A page copied later than the thread was, or at another
 * moment than its neighbours, is found in the next round.
 *
 * On SIGUSR1 it lets both threads go round twice, so that each page has been looked at, and writes "consistent" to
 * FILE, or "torn" with the first page that was wrong.
 */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096
#define WORDS (PAGE / sizeof(uint64_t))
#define THREADS 2

/* A page: the round at both ends, and in between which page it is. */
enum { FIRST = 0, INDEX = 1, LAST = WORDS - 1 };

struct half {
        volatile uint64_t *memory;
        size_t first, pages;
        atomic_ullong rounds;
};

static struct {
        atomic_bool set;
        size_t page;
        uint64_t found, expected;
} torn;

static void report(size_t page, uint64_t found, uint64_t expected) {
        static atomic_flag reported = ATOMIC_FLAG_INIT;

        if (atomic_flag_test_and_set(&reported))
                return;
        torn.page = page;
        torn.found = found;
        torn.expected = expected;
        atomic_store(&torn.set, true);
}

static void advance(volatile uint64_t *word, size_t page, uint64_t round) {
        uint64_t found = *word;

        if (found != round - 1)
                report(page, found, round - 1);
        *word = round;
}

static void *rewrite(void *argument) {
        struct half *half = argument;

        for (uint64_t round = 1;; round++) {
                for (size_t page = half->first; page < half->first + half->pages; page++) {
                        volatile uint64_t *words = half->memory + page * WORDS;

                        advance(&words[FIRST], page, round);
                        if (words[INDEX] != page)
                                report(page, words[INDEX], page);
                        advance(&words[LAST], page, round);
                }
                atomic_store(&half->rounds, round);
        }
        return NULL;
}

/** Returns when each page has been looked at since the call. */
static void wait_rounds(struct half *halves) {
        uint64_t begin[THREADS];

        for (int i = 0; i < THREADS; i++)
                begin[i] = atomic_load(&halves[i].rounds);
        for (int i = 0; i < THREADS; i++)
                while (atomic_load(&halves[i].rounds) < begin[i] + 2)
                        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static int answer(const char *path) {
        FILE *f = fopen(path, "we");

        if (!f)
                return -1;
        if (atomic_load(&torn.set))
                fprintf(f, "torn: page %zu holds %llu, not %llu\n", torn.page, (unsigned long long)torn.found,
                        (unsigned long long)torn.expected);
        else
                fprintf(f, "consistent\n");
        return fclose(f);
}

int main(int argc, char **argv) {
        size_t pages = argc == 3 ? (strtoull(argv[1], NULL, 10) << 20) / PAGE : 0;
        static struct half halves[THREADS];
        uint64_t *memory;
        sigset_t asked;
        int number;

        if (pages < THREADS)
                return 2;
        memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (memory == MAP_FAILED)
                return 1;
        for (size_t page = 0; page < pages; page++)
                memory[page * WORDS + INDEX] = page;

        sigemptyset(&asked);
        sigaddset(&asked, SIGUSR1);
        pthread_sigmask(SIG_BLOCK, &asked, NULL);
        for (int i = 0; i < THREADS; i++) {
                pthread_t thread;

                halves[i] = (struct half){ .memory = memory, .first = pages / THREADS * i, .pages = pages / THREADS };
                if (pthread_create(&thread, NULL, rewrite, &halves[i]) != 0)
                        return 1;
        }
        while (sigwait(&asked, &number) == 0) {
                wait_rounds(halves);
                if (answer(argv[2]) < 0)
                        return 1;
        }
        return 1;
}
