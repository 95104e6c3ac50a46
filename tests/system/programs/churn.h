/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The memory of churn.c: areas of many kinds, of each page of which it is known what must be in it, and what can be
 * done to them. What a page holds follows from one number, which is new each time it is written.
 */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define PAGE ((size_t)4096)
#define WORDS (PAGE / sizeof(uint64_t))
#define AREAS 96
#define HUGE_PAGE ((size_t)2 << 20)
/* Far from where the kernel puts mappings: one that grows down has room there. */
#define GROWS_AT ((uintptr_t)0x200000000000)
#define GROWS_ROOM ((uintptr_t)1 << 30)

/* Values of pages. Any other one is what its words are made of. */
#define ZEROS ((uint64_t)0)
#define OF_FILE ((uint64_t)1)            /* what the file has there */
#define FREED ((uint64_t)1 << 63)        /* MADV_FREE: that value, or zeros */
#define COMPRESSIBLE ((uint64_t)1 << 62) /* 32 words are the same */

enum kind { ANONYMOUS, LOCKED, HIDDEN, HUGE, GROWS, HEAP, WIPED, NOT_FOR_CHILDREN, OF_A_FILE, SHARED, MEMFD, KINDS };

static const char *const kinds[] = { "anonymous", "locked",           "hidden",    "huge",   "growing down", "heap",
                                     "wiped",     "not for children", "of a file", "shared", "memfd" };

struct values {
        atomic_int lock; /* of shared ones */
        uint64_t of[];
};

struct area {
        uint8_t *at;    /* NULL: there is none */
        uint8_t *alias; /* of a memfd: the same pages once more */
        size_t n, room;
        struct values *values;
        enum kind kind;
};

static const char *said;
static int file = -1; /* whose pages are filled with their number + 2 */
static size_t file_pages;
static atomic_uint *bad;
static _Thread_local uint64_t state;

static inline uint64_t draw(uint64_t below) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return (state >> 11) % below;
}

static inline void say(const char *line) {
        int fd = open(said, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

        if (fd >= 0) {
                (void)!write(fd, line, strlen(line));
                close(fd);
        }
}

static inline _Noreturn void die(const char *what) {
        char line[128];

        (void)snprintf(line, sizeof(line), "BAD process %d: %s: %s\n", (int)getpid(), what, strerror(errno));
        say(line);
        atomic_fetch_add(bad, 1);
        _exit(3);
}

static inline uint64_t mix(uint64_t value) {
        value *= 0x9e3779b97f4a7c15u;
        value ^= value >> 29;
        value *= 0xbf58476d1ce4e5b9u;
        return value ^ value >> 32;
}

static inline uint64_t word(uint64_t value, size_t i) {
        if (value == ZEROS)
                return 0;
        return mix(value + (value & COMPRESSIBLE ? i / 32 : i));
}

static inline void fill(void *page, uint64_t value) {
        for (size_t i = 0; i < WORDS; i++)
                ((uint64_t *)page)[i] = word(value, i);
}

static inline bool is_filled(const void *page, uint64_t value) {
        const volatile uint64_t *words = page;
        bool right = true;

        for (size_t i = 0; i < WORDS; i++)
                right &= words[i] == word(value, i);
        return right;
}

/* Of this process, address and moment; now and then one that others have, too. */
static inline uint64_t new_value(const void *at) {
        static atomic_uint generation;
        uint64_t value =
                draw(6) == 0
                        ? mix(draw(32) + 1)
                        : mix(((uint64_t)getpid() << 44) + (uintptr_t)at + (atomic_fetch_add(&generation, 1) & 4095));

        value &= ~(FREED | COMPRESSIBLE);
        return (value | 2) | (draw(2) ? COMPRESSIBLE : 0);
}

static inline bool is_shared(const struct area *area) {
        return area->kind == SHARED || area->kind == MEMFD;
}

static inline void lock_area(struct area *area) {
        while (is_shared(area) && atomic_exchange(&area->values->lock, 1))
                sched_yield();
}

static inline void unlock_area(struct area *area) {
        if (is_shared(area))
                atomic_store(&area->values->lock, 0);
}

static inline void report(const struct area *area, size_t page) {
        const uint64_t *words = (const uint64_t *)(area->at + page * PAGE);
        char line[256];

        if (atomic_fetch_add(bad, 1) > 20)
                return;
        (void)snprintf(
                line, sizeof(line),
                "BAD process %d: page %zu of %zu at %p, %s: value %#llx, words %#llx %#llx are not %#llx %#llx\n",
                (int)getpid(), page, area->n, (const void *)words, kinds[area->kind],
                (unsigned long long)area->values->of[page], (unsigned long long)words[0],
                (unsigned long long)words[WORDS - 1], (unsigned long long)word(area->values->of[page], 0),
                (unsigned long long)word(area->values->of[page], WORDS - 1));
        say(line);
}

static inline void check_page(const struct area *area, size_t page) {
        uint64_t value = area->values->of[page];
        const uint8_t *at = area->at + page * PAGE;
        bool right = is_filled(at, value == OF_FILE ? page + 2 : value & ~FREED);

        if (!right && (value & FREED))
                right = is_filled(at, ZEROS);
        if (right && area->alias)
                right = is_filled(area->alias + page * PAGE, value);
        if (!right)
                report(area, page);
}

static inline void hide(struct area *area, bool away) {
        if (area->kind == HIDDEN && mprotect(area->at, area->n * PAGE, away ? PROT_NONE : PROT_READ | PROT_WRITE) < 0)
                die("mprotect");
}

static inline void check_pages(struct area *area, size_t from, size_t count) {
        lock_area(area);
        hide(area, false);
        for (size_t i = from; i < from + count; i++)
                check_page(area, i);
        hide(area, true);
        unlock_area(area);
}

static inline void check_area(struct area *area) {
        check_pages(area, 0, area->n);
}

static inline void set_values(struct area *area, size_t from, size_t count, uint64_t value) {
        for (size_t i = from; i < from + count; i++)
                area->values->of[i] = value;
}

static inline void write_pages(struct area *area, size_t from, size_t count) {
        lock_area(area);
        hide(area, false);
        for (size_t i = from; i < from + count; i++) {
                uint64_t value = draw(8) == 0 ? ZEROS : new_value(area->at + i * PAGE);

                fill(area->at + i * PAGE, value);
                area->values->of[i] = value;
        }
        hide(area, true);
        unlock_area(area);
}

static inline void *map(size_t pages, int flags) {
        void *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);

        if (at == MAP_FAILED)
                die("mmap");
        return at;
}

/* In the heap, as malloc() must expect it of others. */
static inline uint8_t *map_heap(size_t pages) {
        uintptr_t end = (uintptr_t)sbrk(0);

        if (end == UINTPTR_MAX || sbrk((intptr_t)((PAGE - end % PAGE) % PAGE + pages * PAGE)) == (void *)-1)
                die("sbrk");
        return (uint8_t *)((end + PAGE - 1) / PAGE * PAGE);
}

static inline uint8_t *map_growing(size_t pages) {
        static atomic_uint number;
        void *at = (void *)(GROWS_AT + (atomic_fetch_add(&number, 1) + draw(1 << 10) + 1) * GROWS_ROOM);

        at = mmap(at, pages * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
        return at == MAP_FAILED ? NULL : at;
}

static inline uint8_t *map_huge(size_t pages) {
        uint8_t *at = map(pages + HUGE_PAGE / PAGE, MAP_PRIVATE | MAP_ANONYMOUS);
        size_t before = (HUGE_PAGE - (uintptr_t)at % HUGE_PAGE) % HUGE_PAGE;

        if (before > 0)
                munmap(at, before);
        if (HUGE_PAGE - before > 0)
                munmap(at + before + pages * PAGE, HUGE_PAGE - before);
        (void)madvise(at + before, pages * PAGE, MADV_HUGEPAGE);
        return at + before;
}

static inline void map_memfd(struct area *area) {
        int fd = memfd_create("churn", MFD_CLOEXEC);

        if (fd < 0 || ftruncate(fd, (off_t)(area->n * PAGE)) < 0)
                die("memfd_create");
        area->at = mmap(NULL, area->n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        area->alias = mmap(NULL, area->n * PAGE, PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
        if (area->at == MAP_FAILED || area->alias == MAP_FAILED)
                die("mmap of a memfd");
}

/* What does not depend on the kind: most pages written, some never, some with zeros. */
static inline void make_values(struct area *area) {
        size_t values = (sizeof(struct values) + area->room * sizeof(uint64_t) + PAGE - 1) / PAGE;

        area->values = map(values, (is_shared(area) ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS);
        if (area->kind == OF_A_FILE)
                set_values(area, 0, area->n, OF_FILE);
        for (size_t i = 0; i < area->n; i++)
                if (draw(4) > 0)
                        write_pages(area, i, 1);
}

static inline void map_area(struct area *area) {
        switch (area->kind) {
        case GROWS:
                area->at = map_growing(area->n);
                return;
        case HEAP:
                area->at = map_heap(area->n);
                return;
        case HUGE:
                area->n = (area->n * PAGE + HUGE_PAGE - 1) / HUGE_PAGE * (HUGE_PAGE / PAGE);
                area->at = map_huge(area->n);
                return;
        case OF_A_FILE:
                if (area->n > file_pages)
                        area->n = file_pages;
                area->at = mmap(NULL, area->n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
                if (area->at == MAP_FAILED)
                        die("mmap of a file");
                return;
        case SHARED:
                area->at = map(area->n, MAP_SHARED | MAP_ANONYMOUS);
                return;
        case MEMFD:
                map_memfd(area);
                return;
        default:
                area->at = map(area->n, MAP_PRIVATE | MAP_ANONYMOUS);
        }
}

static inline void new_area(struct area *area, enum kind kind, size_t pages) {
        struct area made = { .kind = kind, .n = pages };

        map_area(&made);
        if (!made.at)
                return;
        made.room = made.n + 64;
        make_values(&made);
        if (kind == LOCKED)
                (void)mlock(made.at + made.n / 2 * PAGE, (made.n - made.n / 2) * PAGE);
        if (kind == WIPED && madvise(made.at, made.n * PAGE, MADV_WIPEONFORK) < 0)
                die("MADV_WIPEONFORK");
        if (kind == NOT_FOR_CHILDREN && madvise(made.at, made.n * PAGE, MADV_DONTFORK) < 0)
                die("MADV_DONTFORK");
        hide(&made, true);
        *area = made;
}

static inline void drop_area(struct area *area) {
        if (area->kind == HEAP && (uint8_t *)sbrk(0) == area->at + area->n * PAGE)
                (void)sbrk(-(intptr_t)(area->n * PAGE));
        else if (area->kind == HEAP)
                return; /* something is above it */
        else if (munmap(area->at, area->n * PAGE) < 0)
                die("munmap");
        if (area->alias)
                munmap(area->alias, area->n * PAGE);
        munmap(area->values, (sizeof(struct values) + area->room * sizeof(uint64_t) + PAGE - 1) / PAGE * PAGE);
        *area = (struct area){ 0 };
}

/* One page, and what is left behind. */
static inline void move_page(struct area *area, size_t page, uint8_t *place, bool leave) {
        uint8_t *old = area->at + page * PAGE;

        if (mremap(old, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | (leave ? MREMAP_DONTUNMAP : 0),
                   place + page * PAGE) == MAP_FAILED)
                die("mremap");
        if (leave && !is_filled(old, ZEROS))
                report(area, page);
}

/* Somewhere else. Moving more than one mapping may fail in the middle of it: mremap(2). */
static inline void move_area(struct area *area) {
        bool leave = area->kind == ANONYMOUS && area->n <= 64 && draw(2) == 0;
        unsigned char there;
        uint8_t *place;

        if (area->kind == HEAP || area->kind == GROWS || area->kind == HUGE)
                return;
        place = mmap(NULL, area->n * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (place == MAP_FAILED)
                die("mmap");
        if (leave || mremap(area->at, area->n * PAGE, area->n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) != place)
                for (size_t i = 0; i < area->n; i++)
                        if (mincore(area->at + i * PAGE, PAGE, &there) == 0)
                                move_page(area, i, place, leave);
        if (leave)
                munmap(area->at, area->n * PAGE);
        area->at = place;
}

/* Larger or smaller, at its end or its beginning. */
static inline void resize_area(struct area *area) {
        size_t n = 1 + draw(area->room);
        void *moved;

        if (area->kind == GROWS) { /* by a fault below it, one page after another */
                size_t more = draw(area->room - area->n + 1);

                memmove(area->values->of + more, area->values->of, area->n * sizeof(uint64_t));
                area->n += more;
                for (; more > 0; more--) {
                        area->at -= PAGE;
                        area->values->of[more - 1] = new_value(area->at);
                        fill(area->at, area->values->of[more - 1]);
                }
                return;
        }
        if (area->kind != ANONYMOUS && area->kind != WIPED)
                return;
        if (draw(2) == 0 && area->n > 8) {
                size_t less = draw(8);

                if (less > 0 && munmap(area->at, less * PAGE) == 0) {
                        area->at += less * PAGE;
                        area->n -= less;
                        memmove(area->values->of, area->values->of + less, area->n * sizeof(uint64_t));
                }
                return;
        }
        moved = mremap(area->at, area->n * PAGE, n * PAGE, MREMAP_MAYMOVE);
        if (moved == MAP_FAILED)
                return;
        area->at = moved;
        if (n > area->n)
                set_values(area, area->n, n - area->n, ZEROS);
        area->n = n;
}

static inline void throw_away(struct area *area, size_t from, size_t count) {
        void *at = area->at + from * PAGE;

        lock_area(area);
        if (is_shared(area)) { /* the first one must change nothing */
                (void)madvise(at, count * PAGE, MADV_DONTNEED);
                if (draw(2) && madvise(at, count * PAGE, MADV_REMOVE) == 0)
                        set_values(area, from, count, ZEROS);
        } else if (area->kind != LOCKED && madvise(at, count * PAGE, MADV_DONTNEED) == 0)
                set_values(area, from, count, area->kind == OF_A_FILE ? OF_FILE : ZEROS);
        unlock_area(area);
}

static inline void set_free(struct area *area, size_t from, size_t count) {
        if (area->kind != ANONYMOUS && area->kind != HUGE && area->kind != HEAP)
                return;
        if (madvise(area->at + from * PAGE, count * PAGE, MADV_FREE) == 0)
                for (size_t i = from; i < from + count; i++)
                        area->values->of[i] |= FREED;
}

/* Something else in its place. */
static inline void replace(struct area *area, size_t from, size_t count) {
        if (area->kind != ANONYMOUS && area->kind != LOCKED)
                return;
        if (mmap(area->at + from * PAGE, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                 -1, 0) == MAP_FAILED)
                die("mmap in its place");
        set_values(area, from, count, ZEROS);
}

/* Splits the mapping, and makes it one again. */
static inline void protect(struct area *area, size_t from, size_t count) {
        void *at = area->at + from * PAGE;

        if (area->kind == HIDDEN)
                return;
        if (mprotect(at, count * PAGE, draw(2) ? PROT_READ : PROT_NONE) < 0)
                die("mprotect");
        if (draw(2))
                usleep((useconds_t)draw(2000));
        if (mprotect(at, count * PAGE, PROT_READ) < 0)
                die("mprotect");
        check_pages(area, from, count);
        if (mprotect(at, count * PAGE, PROT_READ | PROT_WRITE) < 0)
                die("mprotect");
}

static inline void change(struct area *area) {
        size_t from = draw(area->n), count = 1 + draw(area->n - from < 24 ? area->n - from : 24);

        switch (draw(16)) {
        case 0:
                move_area(area);
                break;
        case 1:
                resize_area(area);
                break;
        case 2:
        case 3:
                throw_away(area, from, count);
                break;
        case 4:
                set_free(area, from, count);
                break;
        case 5:
                replace(area, from, count);
                break;
        case 6:
                protect(area, from, count);
                break;
        case 7:
                (void)madvise(area->at, area->n * PAGE, draw(2) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
                break;
        case 8:
        case 9:
        case 10:
                check_pages(area, from, count);
                break;
        default:
                write_pages(area, from, count);
        }
}
