/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The memory of one process while its pages come in: where what was at an address at the dump is now, since the
 * process may run, and map, unmap, move and fork. One for each task of the plan, and for each child that it makes.
 *
 * The lock: who puts pages in has it shared, across looking up an address and putting the page there. Who reads an
 * event of the descriptor has it exclusively, across reading and changing this; writers come first. Without that a page
 * would land at an address that means something else by then.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lazy/plan.h"

/** Memory that pages may still be missing of. */
struct lazy_range {
        uint64_t from, to; /* addresses at the dump */
        uint64_t shift;    /* the address now is that much more, modulo 2^64 */
};

struct lazy_task {
        struct lazy_task *next;
        int uffd;       /* owned */
        ssize_t number; /* in the plan; negative: pages of it are not in the plan */
        pthread_rwlock_t lock;
        struct lazy_range *ranges; /* ascending by `from` */
        size_t n, room;
        bool moved;            /* a range has a shift */
        _Atomic uint8_t *done; /* a bit for each frame of the plan: all of it is in */
        atomic_bool gone;      /* the process has ended */
        unsigned users;        /* the server's, with its lock */
        uint64_t asked;        /* the last page that was asked for although it was in */
        unsigned n_asked;      /* how often in a row */
};

/** @param number in the plan, negative: it is not there. @param uffd taken */
struct lazy_task *lazy_task_new(const struct lazy_plan *plan, ssize_t number, int uffd);

/** A child, with what its parent (locked exclusively) has. @param uffd taken */
struct lazy_task *lazy_task_clone(const struct lazy_plan *plan, const struct lazy_task *parent, int uffd);

/** Closes its descriptor, too. @return NULL */
struct lazy_task *lazy_task_free(struct lazy_task *task);

/* All below with the lock: exclusively what changes something. */

/** What is at the addresses start to end now is gone. */
void lazy_task_cut(struct lazy_task *task, uint64_t start, uint64_t end);

/** What is at start to end now is from now on at `to`; what was there is gone. */
void lazy_task_move(struct lazy_task *task, uint64_t start, uint64_t end, uint64_t to);

/**
 * Where is the first that is left of what was at *from to `to` at the dump?
 *
 * @param from address at the dump; set to that of what is left
 * @param ret_now the address now. @param ret_size bytes that follow each other there
 * @return false: nothing is left
 */
bool lazy_task_locate(const struct lazy_task *task, uint64_t *from, uint64_t to, uint64_t *ret_now, uint64_t *ret_size);

/** Which address at the dump was it that is now at `now`? @return false: nothing of then is there */
bool lazy_task_origin(const struct lazy_task *task, uint64_t now, uint64_t *ret);

static inline bool lazy_task_has(const struct lazy_task *task, uint32_t frame) {
        return atomic_load(&task->done[frame / 8]) >> (frame % 8) & 1;
}

static inline void lazy_task_set(struct lazy_task *task, uint32_t frame, bool done) {
        if (done)
                atomic_fetch_or(&task->done[frame / 8], (uint8_t)(1 << frame % 8));
        else
                atomic_fetch_and(&task->done[frame / 8], (uint8_t) ~(1 << frame % 8));
}
