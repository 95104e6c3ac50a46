/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The memory of a store: large regions, warm when asked for before anything was frozen, cut into chunks of whole pages.
 * Chunks may be given back by any thread; all else is one thread's at a time.
 */

#include <stddef.h>
#include <stdint.h>

struct store_pool;

/** No chunk is larger than this, bytes: a huge page. */
#define POOL_CHUNK_MAX ((size_t)2 << 20)

/** @param budget bytes of memory it may map at most */
struct store_pool *pool_new(uint64_t budget);

/** Unmaps everything. @return NULL */
struct store_pool *pool_free(struct store_pool *pool);

/** Maps and touches memory for `bytes` more (at most what the budget leaves), by two threads when that is much. */
void pool_warm(struct store_pool *pool, uint64_t bytes);

/**
 * Takes a chunk for about `want` bytes; it begins at a page.
 *
 * @param ret_room its size in bytes: whole pages, at most POOL_CHUNK_MAX, less than `want` when a region ends
 * @return the chunk, or NULL: the budget is spent
 */
uint8_t *pool_take(struct store_pool *pool, size_t want, size_t *ret_room);

/** Gives a chunk back to be taken again. Any thread. */
void pool_give(struct store_pool *pool, uint8_t *chunk, size_t room);

/** The same, and its memory goes back to the machine: it will hardly be taken again. Any thread. */
void pool_discard(struct store_pool *pool, uint8_t *chunk, size_t room);
