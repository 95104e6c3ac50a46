/* SPDX-License-Identifier: Apache-2.0 */
#include "image/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/memory.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14, include/uapi/asm-generic/mman-common.h */
#endif

#define PAGE ((size_t)4096)
#define HUGE_PAGE ((size_t)2 << 20)
/** Regions that nobody warmed: mapped as needed. */
#define REGION_COLD ((size_t)32 << 20)
/** From here on a second thread pays for its start. */
#define WARM_TOGETHER ((size_t)64 << 20)

struct region {
        uint8_t *base; /* on a huge page's boundary */
        size_t size, used;
};

struct chunk {
        uint8_t *data;
        size_t room;
};

struct store_pool {
        uint64_t budget, mapped;
        struct region *regions;
        size_t n_regions, room_regions;
        size_t current;       /* the first region that is not used up */
        pthread_mutex_t lock; /* of what was given back */
        struct chunk *given;
        size_t n_given, room_given;
};

struct store_pool *pool_new(uint64_t budget) {
        struct store_pool *pool = NEW(struct store_pool);
        pool->budget = budget / PAGE * PAGE;
        pthread_mutex_init(&pool->lock, NULL);
        return pool;
}

struct store_pool *pool_free(struct store_pool *pool) {
        if (!pool)
                return NULL;
        for (size_t i = 0; i < pool->n_regions; i++)
                munmap(pool->regions[i].base, pool->regions[i].size);
        free(pool->regions);
        free(pool->given);
        pthread_mutex_destroy(&pool->lock);
        free(pool);
        return NULL;
}

/** Maps a region that begins at a huge page's boundary, so that all of it can be huge pages. */
static uint8_t *map_aligned(size_t size) {
        size_t padded = size + HUGE_PAGE;
        uint8_t *raw = mmap(NULL, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (raw == MAP_FAILED)
                return NULL;
        size_t before = (HUGE_PAGE - (uintptr_t)raw % HUGE_PAGE) % HUGE_PAGE;
        if (before > 0)
                munmap(raw, before);
        if (padded - before > size)
                munmap(raw + before + size, padded - before - size);
        (void)madvise(raw + before, size, MADV_HUGEPAGE);
        return raw + before;
}

static struct region *add_region(struct store_pool *pool, uint64_t wanted) {
        uint64_t left = pool->budget - pool->mapped;
        size_t size = (size_t)((wanted < left ? wanted : left) / PAGE * PAGE);
        if (size == 0)
                return NULL;
        uint8_t *base = map_aligned(size);
        if (!base)
                return NULL;
        GROW(pool->regions, pool->n_regions, pool->room_regions);
        struct region *region = &pool->regions[pool->n_regions++];
        *region = (struct region){ .base = base, .size = size };
        pool->mapped += size;
        return region;
}

struct span {
        uint8_t *data;
        size_t size;
};

/** Touches a span, in pieces: two threads that do it hold each other up at the lock of the address space. */
static void *touch(void *userdata) {
        const struct span *span = userdata;
        for (size_t at = 0; at < span->size;) {
                size_t piece = span->size - at < 8 * HUGE_PAGE ? span->size - at : 8 * HUGE_PAGE;
                if (madvise(span->data + at, piece, MADV_POPULATE_WRITE) < 0) {
                        if (errno == EINTR || errno == EAGAIN)
                                continue;
                        if (errno != EINVAL)
                                return NULL; /* no memory left: the rest stays cold */
                        for (size_t page = 0; page < piece; page += PAGE)
                                *(volatile uint8_t *)(span->data + at + page) = 0;
                }
                at += piece;
        }
        return NULL;
}

void pool_warm(struct store_pool *pool, uint64_t bytes) {
        struct region *region = add_region(pool, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
        if (!region)
                return;
        struct span first = { region->base, region->size }, second = { NULL, 0 };
        pthread_t thread;
        bool together = false;
        if (region->size > WARM_TOGETHER) {
                first.size = region->size / 2 / HUGE_PAGE * HUGE_PAGE;
                second = (struct span){ region->base + first.size, region->size - first.size };
                together = pthread_create(&thread, NULL, touch, &second) == 0;
        }
        touch(&first);
        if (together)
                pthread_join(thread, NULL);
        else if (second.size > 0)
                touch(&second);
}

static uint8_t *take_given(struct store_pool *pool, size_t *ret_room) {
        struct chunk chunk = { NULL, 0 };
        pthread_mutex_lock(&pool->lock);
        if (pool->n_given > 0)
                chunk = pool->given[--pool->n_given];
        pthread_mutex_unlock(&pool->lock);
        *ret_room = chunk.room;
        return chunk.data;
}

uint8_t *pool_take(struct store_pool *pool, size_t want, size_t *ret_room) {
        if (want > POOL_CHUNK_MAX)
                want = POOL_CHUNK_MAX;
        want = want < PAGE ? PAGE : (want + PAGE - 1) / PAGE * PAGE;

        uint8_t *given = take_given(pool, ret_room);
        if (given)
                return given;
        while (pool->current < pool->n_regions &&
               pool->regions[pool->current].used == pool->regions[pool->current].size)
                pool->current++;
        if (pool->current == pool->n_regions && !add_region(pool, REGION_COLD))
                return NULL;
        struct region *region = &pool->regions[pool->current];
        size_t rest = region->size - region->used;
        *ret_room = want < rest ? want : rest;
        uint8_t *data = region->base + region->used;
        region->used += *ret_room;
        return data;
}

void pool_give(struct store_pool *pool, uint8_t *chunk, size_t room) {
        pthread_mutex_lock(&pool->lock);
        GROW(pool->given, pool->n_given, pool->room_given);
        pool->given[pool->n_given++] = (struct chunk){ chunk, room };
        pthread_mutex_unlock(&pool->lock);
}

void pool_discard(struct store_pool *pool, uint8_t *chunk, size_t room) {
        (void)madvise(chunk, room, MADV_DONTNEED);
        pool_give(pool, chunk, room);
}
