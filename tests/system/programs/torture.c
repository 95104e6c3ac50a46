/* SPDX-License-Identifier: Apache-2.0 */

/*
 * torture SEED MIB OUT GO: memory that it knows every page of. When the file GO is there it forks, moves, unmaps,
 * throws away, protects and writes it, while threads read, and says in the file OUT whether each page was what it
 * should be.
 */

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define PAGE ((size_t)4096)
#define BLOCK ((size_t)16)
#define WORDS (PAGE / sizeof(uint64_t))
#define READERS 4
#define ROUNDS 600

struct block {
        uint64_t *at;
        uint64_t values[BLOCK]; /* 0: zeros */
};

static struct block *blocks; /* the first half is changed, the other one read by threads */
static size_t n_blocks;
static const char *out;

static uint64_t next(uint64_t *state) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static void say(const char *what, size_t block, size_t page) {
        char line[128];
        int fd = open(out, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        int n = snprintf(line, sizeof(line), "%s %zu %zu\n", what, block, page);

        if (fd >= 0) {
                (void)!write(fd, line, (size_t)n);
                close(fd);
        }
}

static uint64_t word(uint64_t value, size_t i) {
        uint64_t mixed = (value + i) * 0x9e3779b97f4a7c15u; /* so that it cannot be compressed */

        return value ? mixed ^ mixed >> 29 : 0;
}

static void fill(uint64_t *page, uint64_t value) {
        for (size_t i = 0; i < WORDS; i++)
                page[i] = word(value, i);
}

static bool page_is_right(size_t block, size_t page) {
        const volatile uint64_t *at = blocks[block].at + page * WORDS;

        for (size_t i = 0; i < WORDS; i += 7)
                if (at[i] != word(blocks[block].values[page], i)) {
                        say("BAD", block, page);
                        return false;
                }
        return true;
}

static bool block_is_right(size_t block) {
        for (size_t page = 0; page < BLOCK; page++)
                if (!page_is_right(block, page))
                        return false;
        return true;
}

static bool all_right(void) {
        for (size_t i = 0; i < n_blocks; i++)
                if (!block_is_right(i))
                        return false;
        return true;
}

static void *reader(void *userdata) {
        uint64_t state = (uintptr_t)userdata * 77 + 5;
        bool right = true;

        for (int i = 0; i < ROUNDS * 4 && right; i++)
                right = page_is_right(n_blocks / 2 + next(&state) % (n_blocks - n_blocks / 2), next(&state) % BLOCK);
        return right ? NULL : userdata;
}

/* Somewhere else, and what is left behind. */
static void move(struct block *block, bool leave) {
        void *place = mmap(NULL, BLOCK * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        void *moved = mremap(block->at, BLOCK * PAGE, BLOCK * PAGE,
                             MREMAP_MAYMOVE | MREMAP_FIXED | (leave ? MREMAP_DONTUNMAP : 0), place);

        if (moved == MAP_FAILED) {
                munmap(place, BLOCK * PAGE);
                return;
        }
        if (leave) {
                for (size_t i = 0; i < BLOCK; i++)
                        if (((volatile uint64_t *)block->at)[i * WORDS] != 0)
                                say("BAD left", (size_t)(block - blocks), i);
                munmap(block->at, BLOCK * PAGE);
        }
        block->at = moved;
}

static void change(struct block *block, uint64_t *state) {
        size_t page = next(state) % BLOCK, count = 1 + next(state) % (BLOCK - page);

        switch (next(state) % 7) {
        case 0:
                move(block, false);
                break;
        case 1:
                move(block, true);
                break;
        case 2: /* unmapped, and something else in its place */
                if (mmap(block->at, BLOCK * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                         0) == MAP_FAILED)
                        abort();
                memset(block->values, 0, sizeof(block->values));
                break;
        case 3:
                if (madvise(block->at + page * WORDS, count * PAGE, MADV_DONTNEED) < 0)
                        abort();
                memset(block->values + page, 0, count * sizeof(uint64_t));
                break;
        case 4: /* splits the mapping */
                mprotect(block->at + page * WORDS, PAGE, PROT_READ);
                (void)page_is_right((size_t)(block - blocks), page);
                mprotect(block->at + page * WORDS, PAGE, PROT_READ | PROT_WRITE);
                break;
        default:
                block->values[page] = next(state) | 1;
                fill(block->at + page * WORDS, block->values[page]);
                break;
        }
}

/* A child sees the memory as it was, whatever its parent does then. */
static void child(uint64_t state, int depth) {
        bool right = true;

        do {
                for (int i = 0; i < 200 && right; i++) {
                        size_t block = next(&state) % n_blocks;

                        if (next(&state) % 4 == 0)
                                change(&blocks[block], &state);
                        right = block_is_right(block);
                }
                (void)next(&state);
        } while (depth-- > 0 && fork() == 0);
        if (right && next(&state) % 4 == 0)
                right = all_right();
        for (int status; wait(&status) > 0;)
                right = right && status == 0;
        _exit(right ? 0 : 1);
}

static void make(size_t mib, uint64_t *state) {
        uint64_t *memory;

        n_blocks = mib * 16;
        blocks = calloc(n_blocks, sizeof(*blocks));
        memory = mmap(NULL, n_blocks * BLOCK * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (!blocks || memory == MAP_FAILED)
                abort();
        for (size_t i = 0; i < n_blocks; i++) {
                blocks[i].at = memory + i * BLOCK * WORDS;
                for (size_t page = 0; page < BLOCK; page++) {
                        uint64_t kind = next(state) % 8;

                        /* Some equal ones, some zeros that were written, some never touched. */
                        blocks[i].values[page] = kind == 0 ? 7 : kind < 3 ? 0 : next(state) | 1;
                        if (kind != 1)
                                fill(blocks[i].at + page * WORDS, blocks[i].values[page]);
                }
        }
}

int main(int argc, char **argv) {
        uint64_t state;
        pthread_t readers[READERS];
        bool right = true;
        void *result;

        if (argc != 5)
                return 2;
        state = strtoull(argv[1], NULL, 10) * 2654435761u + 88172645463325252u;
        out = argv[3];
        make(strtoull(argv[2], NULL, 10), &state);
        say("ready", 0, 0);
        while (access(argv[4], F_OK) < 0)
                usleep(1000);

        for (size_t i = 0; i < READERS; i++)
                if (pthread_create(&readers[i], NULL, reader, (void *)(i + 1)) != 0)
                        return 3;
        for (int i = 0; i < ROUNDS; i++) {
                size_t block = next(&state) % (n_blocks / 2);

                change(&blocks[block], &state);
                right = right && block_is_right(block);
                if (i % 50 == 25 && fork() == 0)
                        child(next(&state), 1);
        }
        for (size_t i = 0; i < READERS; i++) {
                (void)pthread_join(readers[i], &result);
                right = right && !result;
        }
        for (int status; wait(&status) > 0;)
                right = right && status == 0;
        right = all_right() && right;
        say(right ? "right" : "wrong", 0, 0);
        for (;;)
                pause();
}
