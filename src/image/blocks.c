/* SPDX-License-Identifier: Apache-2.0 */
#include "image/blocks.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/threads.h"

/** A block on its way. Its memory is allocated when it is first needed: the method's "before", the block, the room. */
struct slot {
        struct block block;
        uint8_t *memory;
        bool encoded; /* under the lock */
        int result;
        struct st_error *error;
};

struct worker {
        struct blocks *blocks;
        void *state;
        pthread_t thread;
};

/* Blocks are numbered in the order of the stream; block N is in slot N modulo n_slots. put ≤ begun ≤ added. */
struct blocks {
        const struct blocks_method *method;
        blocks_put put;
        void *userdata;
        struct slot *slots;
        size_t n_slots;
        struct slot *filling; /* the block that is not full; NULL: none is begun */
        uint64_t n_put;       /* the first block that is not put out */

        struct worker *workers; /* at least one, which the caller is when no thread was started */
        size_t n_workers, n_threads;

        pthread_mutex_t lock; /* of all that follows */
        pthread_cond_t added, encoded;
        uint64_t n_added, n_begun; /* blocks that are full; that a worker has taken */
        bool stopped;
};

static struct slot *slot_of(struct blocks *blocks, uint64_t number) {
        return &blocks->slots[number % blocks->n_slots];
}

static void encode(const struct blocks *blocks, void *state, struct slot *slot) {
        slot->result = blocks->method->encode(state, &slot->block, &slot->error);
}

static void *work(void *userdata) {
        const struct worker *worker = userdata;
        struct blocks *blocks = worker->blocks;
        pthread_mutex_lock(&blocks->lock);
        while (!blocks->stopped) {
                if (blocks->n_begun == blocks->n_added) {
                        pthread_cond_wait(&blocks->added, &blocks->lock);
                        continue;
                }
                struct slot *slot = slot_of(blocks, blocks->n_begun++);
                pthread_mutex_unlock(&blocks->lock);
                encode(blocks, worker->state, slot);
                pthread_mutex_lock(&blocks->lock);
                slot->encoded = true;
                pthread_cond_signal(&blocks->encoded);
        }
        pthread_mutex_unlock(&blocks->lock);
        return NULL;
}

static int no_memory(struct st_error **err) {
        return st_error_errno(err, ENOMEM, "cannot compress");
}

int blocks_new(const struct blocks_method *method, uint64_t size, unsigned threads, blocks_put put, void *userdata,
               struct blocks **ret, struct st_error **err) {
        struct blocks *blocks = NEW(struct blocks);
        if (threads > BLOCKS_THREADS_MAX)
                threads = BLOCKS_THREADS_MAX;
        if (threads > size / BLOCKS_SIZE)
                threads = (unsigned)(size / BLOCKS_SIZE);
        blocks->method = method;
        blocks->put = put;
        blocks->userdata = userdata;
        pthread_mutex_init(&blocks->lock, NULL);
        pthread_cond_init(&blocks->added, NULL);
        pthread_cond_init(&blocks->encoded, NULL);

        size_t wanted = threads > 0 ? threads : 1;
        blocks->workers = xcalloc(wanted, sizeof(*blocks->workers));
        /* For each thread one in work and one that waits; and one that is filled, which needs the one before it. */
        blocks->n_slots = threads > 0 ? 2 * threads + 1 : 2;
        blocks->slots = xcalloc(blocks->n_slots, sizeof(*blocks->slots));
        for (; blocks->n_workers < wanted; blocks->n_workers++) {
                struct worker *worker = &blocks->workers[blocks->n_workers];
                worker->blocks = blocks;
                worker->state = method->state_new();
                if (!worker->state) {
                        blocks_free(blocks);
                        return no_memory(err);
                }
        }
        while (blocks->n_threads < threads && threads_start(&blocks->workers[blocks->n_threads].thread, work,
                                                            &blocks->workers[blocks->n_threads]) == 0)
                blocks->n_threads++;
        *ret = blocks;
        return 0;
}

struct blocks *blocks_free(struct blocks *blocks) {
        if (!blocks)
                return NULL;
        pthread_mutex_lock(&blocks->lock);
        blocks->stopped = true;
        pthread_cond_broadcast(&blocks->added);
        pthread_mutex_unlock(&blocks->lock);
        for (size_t i = 0; i < blocks->n_threads; i++)
                pthread_join(blocks->workers[i].thread, NULL);
        for (size_t i = 0; i < blocks->n_workers; i++)
                blocks->method->state_free(blocks->workers[i].state);
        for (size_t i = 0; i < blocks->n_slots; i++) {
                st_error_free(blocks->slots[i].error);
                free(blocks->slots[i].memory);
        }
        pthread_cond_destroy(&blocks->encoded);
        pthread_cond_destroy(&blocks->added);
        pthread_mutex_destroy(&blocks->lock);
        free(blocks->slots);
        free(blocks->workers);
        free(blocks);
        return NULL;
}

/** Begins the block after the last that was added. Its slot is free: what was in it is put out. */
static int begin_block(struct blocks *blocks, struct st_error **err) {
        const struct blocks_method *method = blocks->method;
        struct slot *slot = slot_of(blocks, blocks->n_added);
        if (!slot->memory && !(slot->memory = malloc(method->before + BLOCKS_SIZE + method->room)))
                return no_memory(err);
        uint8_t *in = slot->memory + method->before;
        size_t before = blocks->n_added > 0 ? method->before : 0;
        if (before > 0) /* the block before it was full, and is in its slot still */
                memcpy(in - before, slot_of(blocks, blocks->n_added - 1)->block.in + BLOCKS_SIZE - before, before);
        slot->block = (struct block){ .in = in, .before = before, .out = in + BLOCKS_SIZE };
        slot->encoded = false;
        blocks->filling = slot;
        return 0;
}

/** The block is full, or the last. */
static void end_block(struct blocks *blocks) {
        struct slot *slot = TAKE_PTR(blocks->filling);
        bool alone = blocks->n_threads == 0;
        if (alone)
                encode(blocks, blocks->workers[0].state, slot);
        pthread_mutex_lock(&blocks->lock);
        blocks->n_added++;
        blocks->n_begun += alone;
        slot->encoded = alone;
        pthread_cond_signal(&blocks->added);
        pthread_mutex_unlock(&blocks->lock);
}

/** Is the first block that is not put out encoded? Waits for it when more than `most` are not put out. */
static bool next_is_encoded(struct blocks *blocks, uint64_t most) {
        pthread_mutex_lock(&blocks->lock);
        uint64_t left = blocks->n_added - blocks->n_put;
        const struct slot *slot = slot_of(blocks, blocks->n_put);
        while (left > most && !slot->encoded)
                pthread_cond_wait(&blocks->encoded, &blocks->lock);
        bool encoded = left > 0 && slot->encoded;
        pthread_mutex_unlock(&blocks->lock);
        return encoded;
}

/** Puts out what is encoded, and waits until at most `most` blocks are left. */
static int put_out(struct blocks *blocks, uint64_t most, struct st_error **err) {
        while (next_is_encoded(blocks, most)) {
                struct slot *slot = slot_of(blocks, blocks->n_put++);
                if (slot->result < 0)
                        return st_error_move(err, TAKE_PTR(slot->error));
                int r = blocks->put(blocks->userdata, &slot->block, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int blocks_add(struct blocks *blocks, const void *data, size_t length, struct st_error **err) {
        const uint8_t *bytes = data;
        int r = 0;
        while (length > 0 && r == 0) {
                if (!blocks->filling && (r = begin_block(blocks, err)) < 0)
                        return r;
                struct block *block = &blocks->filling->block;
                size_t left = BLOCKS_SIZE - block->size, n = length < left ? length : left;
                memcpy(blocks->filling->memory + blocks->method->before + block->size, bytes, n);
                block->size += n;
                bytes += n;
                length -= n;
                if (n < left)
                        break;
                end_block(blocks);
                r = put_out(blocks, blocks->n_slots - 1, err);
        }
        return r;
}

int blocks_finish(struct blocks *blocks, struct st_error **err) {
        if (blocks->filling)
                end_block(blocks);
        return put_out(blocks, 0, err);
}
