/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of grabbing share: grab.c talks to CRIU, grab_copy.c copies, grab_files.c makes the files. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "criu/images.h"
#include "image/grab.h"

#define GRAB_PAGE ((uint64_t)4096)

/** Pages that CRIU told us of, one behind the other in memory. */
struct grab_range {
        uint64_t at; /* address */
        uint64_t pages;
        uint32_t flags; /* enum criu_pagemap_flags; PARENT: to be copied by us */
        uint8_t *data;  /* content that CRIU has sent, until it is in the store */
};

/** Memory from an address to another. */
struct grab_piece {
        uint64_t start, end;
};

struct grab_unwritten {
        struct grab_piece *pieces; /* ascending; malloc'ed */
        size_t n, room;
};

/** The pages of a process, or of a piece of shared memory. */
struct grab_file {
        uint64_t number; /* of the image: the PID in the target's PID namespace; of shared memory its ID */
        bool shared;     /* its content is in the store already */
        pid_t pid;       /* ours for it; 0 until it is looked up */
        pid_t looked_at; /* of whom `unwritten` is; 0: nobody */
        struct grab_unwritten unwritten;
        struct store_file *pages;
        unsigned pages_id;         /* pages-N.img */
        struct grab_range *ranges; /* ascending */
        size_t n, room;
};

struct grab {
        struct store *store;
        struct grab_options options;
        uint64_t *
                numbers; /* of options.watches: the PID that each process has itself; 0: unknown. NULL without a base */
        pthread_t thread;
        int socket;
        atomic_bool aborted;

        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool ended;
        struct st_error *error; /* of the thread; others read it when it has ended */

        /* The thread's own until it has ended. */
        struct grab_file **files; /* in CRIU's order */
        size_t n_files, room_files;
        uint64_t data; /* bytes in ranges' data */
        uint64_t told;
        uint64_t copy_ns;
        bool unwatched; /* what is written from now on will not be known */
        uint8_t *input; /* what has come and was not looked at yet */
        size_t input_at, input_have;
};

/** Sets numbers, before anything is frozen. */
void grab_number_watches(struct grab *grab);

/**
 * Asks what the process has not written since the base was made: CRIU, which has frozen all of them by now, looks for
 * its pages at the same time. When it is not known yet which process it is, grab_copy() does it.
 */
void grab_look_early(struct grab *grab, struct grab_file *file);

/** Copies what CRIU has left to us into the store, after the last range has come. On the grab's thread. */
int grab_copy(struct grab *grab, struct st_error **err);

/**
 * Lets all memory count as unwritten from now on. The processes run on: what they write until they are frozen, and
 * copied wholly, is copied once more the next time. Without a watch there is nothing.
 */
void grab_watch_begin(struct grab *grab);

/** Looks at the memory of a frozen process, which is watched from then on anew. Without a watch there is nothing. */
void grab_watch_look(struct grab *grab, pid_t pid, struct grab_unwritten *ret);

/** Says how much has been captured. */
void grab_tell(struct grab *grab);

/**
 * The pagemap of a file, in CRIU's format.
 *
 * @param mm of the process, its mappings ascending; NULL: shared memory
 * @param ret malloc'ed
 */
void grab_pagemap(const struct grab_file *file, const CriuImage__Mm *mm, uint8_t **ret, size_t *ret_size);
