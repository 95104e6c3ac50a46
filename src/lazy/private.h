/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of the server share: server.c (its life), events.c (the descriptors), copier.c (the pages). */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lazy/server.h"
#include "lazy/tasks.h"

/* Registering memory that is about to be waited for takes CRIU about so long. */
#define LAZY_RETRY_NS 300000

enum lazy_frame_state { LAZY_TODO, LAZY_BUSY, LAZY_DONE };

struct lazy {
        struct lazy_options options;
        int epoll, stop_fd, state_fd;
        pthread_t events, *copiers;
        unsigned n_copiers;
        atomic_bool stopped;
        atomic_bool mapped;         /* memory that is not there is not to come */
        atomic_uint_fast64_t pages; /* that are in */

        pthread_mutex_t lock; /* of all below */
        pthread_cond_t changed;
        struct lazy_task **tasks; /* for each of the plan the processes that have its memory: it and its children */
        struct lazy_task *others; /* processes that are not in the plan */
        size_t n_tasks, purge_at;
        bool *arrived;   /* for each of the plan */
        bool waiting_fd; /* of the event thread: a descriptor follows the PID */
        int32_t pid;
        bool over, broken, failed; /* CRIU said so; closed the connection; we failed */
        struct st_error *error;    /* the first */
        uint8_t *states;           /* enum lazy_frame_state of each frame */
        uint32_t *urgent;          /* a ring of frames that somebody waits for: room for each once */
        size_t first_urgent, n_urgent;
        bool *is_urgent; /* in the ring; of a frame that is LAZY_BUSY: it will be when it is given back */
        size_t cursor, n_done;
};

static inline bool lazy_stopped(const struct lazy *lazy) {
        return atomic_load(&lazy->stopped);
}

/** The first failure is kept; everything ends. Takes the error. */
void lazy_fail(struct lazy *lazy, struct st_error *error);

/** Lets lazy_fd() poll readable. */
void lazy_tell(struct lazy *lazy);

/** Somebody waits for a frame. With lazy->lock. */
void lazy_urge(struct lazy *lazy, uint32_t frame);

/** Reads all events of a task, which is locked exclusively meanwhile. */
void lazy_drain(struct lazy *lazy, struct lazy_task *task);

/** The thread that reads events, and CRIU's messages; userdata is the server. */
void *lazy_events_thread(void *userdata);

/** A thread that puts pages in; userdata is the server. */
void *lazy_copier_thread(void *userdata);
