/* SPDX-License-Identifier: Apache-2.0 */

/*
 * workload MIB [zeros]: a process to measure. Holds MIB of memory in which 64 KiB of random bytes and 64 KiB of text
 * take turns; with "zeros" every other 128 KiB are written zeros. Tells the address of its control block, lets go of
 * its output, and looks at the clock every 200 µs from then on.
 *
 * workload --warm MIB: writes to so much memory once and ends, so that the host has backed it.
 *
 * The control block is read and written from outside (/proc/PID/mem): a pipe or a file to talk by would be part of the
 * checkpoint. Words of 64 bits, in this order; tests/bench/datapath.py reads them.
 */

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define RUN_PAGES ((size_t)16) /* 64 KiB */
#define DIRTY_ONE_OF 20        /* 5 % */
#define WORDS 512
#define WORD_MAX 16
#define MAGIC 0x64616f6c6b726f77u /* "workload" */
#define TICK_NS 200000

struct control {
        uint64_t magic;
        _Atomic uint64_t stall;     /* ns: the longest time without a look at the clock; may be set to 0 from outside */
        _Atomic uint64_t stall_end; /* ns, CLOCK_REALTIME: when it ended. After a restore: its first tick */
        _Atomic uint64_t asked;     /* written from outside: a number that counts up, times 4, plus a request */
        _Atomic uint64_t answered;  /* the last one of `asked` that is done */
        _Atomic uint64_t intact;    /* 1: the memory is what was written to it */
        _Atomic uint64_t expected;  /* the checksum that the memory must have */
};

enum request {
        REQUEST_CHECK = 1, /* compares the memory with `expected` */
        REQUEST_DIRTY = 2, /* writes one of DIRTY_ONE_OF pages anew, and tells the new checksum */
};

struct memory {
        uint8_t *bytes;
        size_t pages;
        bool zeros;
        uint64_t state; /* of the random numbers */
        uint8_t words[WORDS][WORD_MAX];
        uint8_t lengths[WORDS];
};

static struct control control;
static struct memory memory = { .state = 88172645463325252u };

/* CRIU restores into a time namespace, in which CLOCK_MONOTONIC goes on as if no time had passed; this one does not. */
static uint64_t now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* xorshift64 */
static uint64_t draw(struct memory *m) {
        m->state ^= m->state << 13;
        m->state ^= m->state >> 7;
        m->state ^= m->state << 17;
        return m->state;
}

/* Words of two to nine letters and a space, the letters as often as in a language. */
static void make_words(struct memory *m) {
        static const char letters[] = "eeeeeeettttaaaooiinnsshhrrdlcumwfgypbvk";

        for (size_t i = 0; i < WORDS; i++) {
                uint64_t x = draw(m);
                size_t length = 2 + x % 8;

                for (size_t k = 0; k < length; k++)
                        m->words[i][k] = (uint8_t)letters[draw(m) % (sizeof(letters) - 1)];
                m->words[i][length] = ' ';
                m->lengths[i] = (uint8_t)(length + 1);
        }
}

static void write_random(struct memory *m, uint8_t *page) {
        for (size_t i = 0; i < PAGE; i += sizeof(uint64_t)) {
                uint64_t x = draw(m);
                memcpy(page + i, &x, sizeof(x));
        }
}

/* The first words of the list are the frequent ones. */
static void write_text(struct memory *m, uint8_t *page) {
        size_t i = 0;

        while (i < PAGE - WORD_MAX) {
                uint64_t x = draw(m);
                size_t word = (size_t)((x % WORDS) * (x >> 16 & 1023) * (x >> 32 & 1023) >> 20);

                memcpy(page + i, m->words[word], WORD_MAX);
                i += m->lengths[word];
        }
        memset(page + i, ' ', PAGE - i);
}

static void write_page(struct memory *m, size_t number) {
        uint8_t *page = m->bytes + number * PAGE;
        size_t run = number / RUN_PAGES;

        if (m->zeros && run % 4 >= 2)
                memset(page, 0, PAGE);
        else if (run % 2)
                write_text(m, page);
        else
                write_random(m, page);
}

/* Four sums side by side: one would be as slow as its multiplications. */
static uint64_t checksum(const struct memory *m) {
        uint64_t sums[4] = { 0 }, word[4];

        for (size_t i = 0; i < m->pages * PAGE; i += sizeof(word)) {
                memcpy(word, m->bytes + i, sizeof(word));
                for (size_t k = 0; k < 4; k++)
                        sums[k] = sums[k] * 31 + word[k];
        }
        return ((sums[0] * 31 + sums[1]) * 31 + sums[2]) * 31 + sums[3];
}

/* Scattered: one page of each DIRTY_ONE_OF, which one is drawn. */
static void dirty(struct memory *m) {
        for (size_t i = 0; i + DIRTY_ONE_OF <= m->pages; i += DIRTY_ONE_OF)
                write_page(m, i + draw(m) % DIRTY_ONE_OF);
        atomic_store(&control.expected, checksum(m));
}

static void *tick(void *unused) {
        const struct timespec pause = { .tv_nsec = TICK_NS };

        (void)unused;
        for (uint64_t last = now_ns();;) {
                uint64_t now;

                nanosleep(&pause, NULL);
                now = now_ns();
                if (now - last > atomic_load(&control.stall)) {
                        atomic_store(&control.stall_end, now);
                        atomic_store(&control.stall, now - last);
                }
                last = now;
        }
        return NULL;
}

static void serve(struct memory *m) {
        const struct timespec pause = { .tv_nsec = 2000000 };

        for (;;) {
                uint64_t asked = atomic_load(&control.asked);

                if (asked == atomic_load(&control.answered)) {
                        nanosleep(&pause, NULL);
                        continue;
                }
                if (asked % 4 == REQUEST_DIRTY)
                        dirty(m);
                else
                        atomic_store(&control.intact, checksum(m) == atomic_load(&control.expected));
                atomic_store(&control.answered, asked);
        }
}

static uint8_t *map(size_t bytes) {
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return p == MAP_FAILED ? NULL : p;
}

static int warm(size_t mib) {
        uint8_t *bytes = map(mib << 20);

        if (!bytes)
                return 1;
        for (size_t i = 0; i < mib << 20; i += PAGE)
                *(volatile uint8_t *)(bytes + i) = 1;
        return 0;
}

int main(int argc, char **argv) {
        size_t mib = argc == 2 || argc == 3 ? strtoull(argv[argc == 3 && argv[1][0] == '-' ? 2 : 1], NULL, 10) : 0;
        pthread_t ticker;
        int null;

        if (mib == 0 || mib > (SIZE_MAX >> 20))
                return 2;
        if (strcmp(argv[1], "--warm") == 0)
                return warm(mib);
        memory.pages = (mib << 20) / PAGE;
        memory.zeros = argc == 3;
        memory.bytes = map(mib << 20);
        if (!memory.bytes)
                return 1;
        make_words(&memory);
        for (size_t i = 0; i < memory.pages; i++)
                write_page(&memory, i);
        control.magic = MAGIC;
        atomic_store(&control.expected, checksum(&memory));
        if (pthread_create(&ticker, NULL, tick, NULL) != 0)
                return 1;
        printf("%p\n", (void *)&control);
        if (fflush(stdout) != 0)
                return 1;
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0 || dup2(null, STDOUT_FILENO) < 0)
                return 1;
        close(null);
        serve(&memory);
}
