/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What makes frames of a store's bytes, on several threads: a native image on its way to the disk. Jobs are pieces of
 * files; each is encoded by one thread, in any order. A thread collects pages that are new, and bytes of files, until a
 * frame is full, and writes it to the next free place of the file.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "image/formats.h"
#include "image/native.h"
#include "image/page_table.h"

/** No more threads than this encode: they would wait for the disk. */
#define NATIVE_THREADS_MAX 16

struct native_job {
        struct store_file *file;
        uint64_t position, length; /* bytes of the file; of pages whole ones */
        enum native_kind kind;
        size_t extent, at;         /* where it begins in the store */
        uint8_t *chunk;            /* its bytes, when the store has given them away; else NULL */
        size_t room;               /* of the chunk */
        struct native_file result; /* its extents or runs alone, the encoder's; frames have provisional numbers */
        uint32_t room_result;
};

struct native_encoder {
        struct writing *writing;
        int fd; /* the image; -EBADF until it is started; the caller's */
        struct native_header header;
        struct native *parent;              /* NULL: none */
        struct page_table *table;           /* source N is source N - 1 of the parent */
        atomic_uint_least64_t offset, sent; /* where the next frame goes; what is handed to the disk */

        pthread_mutex_t lock; /* of all that follows */
        pthread_cond_t changed;
        struct native_job **jobs;
        size_t n_jobs, room_jobs, next;
        size_t outstanding, returned; /* chunks that the store gave away; how many of them came back ever */
        bool closed;                  /* there will be no further jobs */
        struct native_frame *frames;  /* by provisional number; stored is 0 until it is written */
        uint32_t n_frames, room_frames;
        int result; /* of the first that failed */
        struct st_error *error;

        pthread_t threads[NATIVE_THREADS_MAX];
        size_t n_threads;
};

/** Opens and holds the parent, if there is one, and reads which pages are there. */
int native_encoder_new(struct writing *writing, struct native_encoder **ret, struct st_error **err);
/** Stops the threads. @return NULL */
struct native_encoder *native_encoder_free(struct native_encoder *encoder);

/** Writes the header, starts the threads. @param fd an empty file, the caller's */
int native_encoder_start(struct native_encoder *encoder, int fd, struct st_error **err);

/** Adds a job, which is the encoder's from now on. */
void native_encoder_add(struct native_encoder *encoder, struct native_job *job);

/**
 * Has a chunk come back since the last time that this was asked?
 *
 * @param wait for one, as long as any is away
 * @return 1; 0: none has; -errno with err: the encoder has failed
 */
int native_encoder_returned(struct native_encoder *encoder, bool wait, struct st_error **err);

/** No further jobs: waits for the threads' end. @return 0 or the first error */
int native_encoder_finish(struct native_encoder *encoder, struct st_error **err);

/** Writes at a place of the image, and sends to the disk what has come to be before it. Any thread. */
int native_encoder_write(struct native_encoder *encoder, const void *data, size_t size, uint64_t offset,
                         struct st_error **err);

/** Gives all full chunks of the store to the encoder, so that they come back. On the thread that fills it. */
void native_give(struct native_encoder *encoder, struct store *store);

/** Of what kind a whole file is. */
enum native_kind native_kind_of(const struct store_file *file);

/** Is this page the one after a run? */
static inline bool native_run_continues(const struct native_run *run, uint16_t source, uint32_t frame, uint32_t page) {
        return run->source == source && run->count < UINT32_MAX &&
               (source == NATIVE_ZERO || (run->frame == frame && run->page + run->count == page));
}

/** After that: page digests, index, footer, fsync. native_finish.c */
int native_finish(struct native_encoder *encoder, struct st_error **err);
