/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Encodes a stream block by block, on several threads: for formats that can be put together of blocks which know
 * nothing of each other, or only the bytes just before them. The result is the same, byte for byte, whatever the number
 * of threads. Memory: about 2 MiB for each of twice as many blocks as there are threads, and of one more.
 *
 * All functions are called by one thread at a time. That thread copies the bytes in and puts out what the others made,
 * in the order of the stream; it waits when they are too far behind.
 */

#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

/** Bytes of a block; of the last one fewer. */
#define BLOCKS_SIZE ((size_t)1 << 20)
/** No more threads than this encode: they would wait for the disk. */
#define BLOCKS_THREADS_MAX 16

struct block {
        const uint8_t *in; /* in[-before] to in[-1] are the bytes of the stream that come before it */
        size_t before, size;
        uint8_t *out;      /* has the method's room */
        size_t made;       /* bytes in it */
        uint32_t checksum; /* the method's own: of in[0] to in[size - 1] */
};

/** How blocks are encoded. The functions may be called by any thread, at the same time with different states. */
struct blocks_method {
        size_t before; /* bytes that a block sees of what precedes it, at most BLOCKS_SIZE */
        size_t room;   /* bytes that an encoded block may need */

        /** A state is used for one block at a time, for one after the other. @return it, or NULL: no memory */
        void *(*state_new)(void);
        void (*state_free)(void *state);
        /** Sets out, made and checksum. @return 0 or a negative errno with err */
        int (*encode)(void *state, struct block *block, struct st_error **err);
};

/** Takes an encoded block. @return 0 or a negative errno with err, which ends the encoding */
typedef int (*blocks_put)(void *userdata, const struct block *block, struct st_error **err);

struct blocks;

/**
 * @param method must outlive it
 * @param size bytes that the stream will have: a short one needs no threads; it may be wrong
 * @param threads how many encode; 0: the caller's does, as it does when the machine has no thread to give
 * @return 0; -ENOMEM with err
 */
int blocks_new(const struct blocks_method *method, uint64_t size, unsigned threads, blocks_put put, void *userdata,
               struct blocks **ret, struct st_error **err);

/** At any time: waits only for the blocks that are being encoded, and forgets the others. @return NULL */
struct blocks *blocks_free(struct blocks *blocks);

/** Adds bytes to the stream. @return 0; or the first error in the order of the stream: only blocks_free() may follow */
int blocks_add(struct blocks *blocks, const void *data, size_t length, struct st_error **err);

/** The stream ends here: all of it is put out. */
int blocks_finish(struct blocks *blocks, struct st_error **err);
