/* SPDX-License-Identifier: Apache-2.0 */

/* Threads that decode frames, each once, and put their pages where they belong. */

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "lazy/private.h"
#include "lazy/uffd.h"

/* How often memory that the machine does not have is asked for again, and how long between. */
#define MEMORY_ATTEMPTS 500
#define MEMORY_PAUSE_NS 10000000
/* An event is read by its thread within this time, usually. */
#define EVENT_PAUSE_NS 20000

struct copier {
        struct lazy *lazy;
        struct native_coder *coder;
        uint8_t *stored, *data;
};

static void pause_ns(long ns) {
        const struct timespec time = { .tv_nsec = ns };

        (void)nanosleep(&time, NULL);
}

/** The next frame to do, LAZY_BUSY from now on. @return false: it is all over */
static bool take_frame(struct lazy *lazy, uint32_t *ret) {
        size_t n = lazy->options.plan->n_frames;
        bool found = false;

        pthread_mutex_lock(&lazy->lock);
        while (!found && !lazy_stopped(lazy)) {
                if (lazy->n_urgent > 0) {
                        *ret = lazy->urgent[lazy->first_urgent];
                        lazy->first_urgent = (lazy->first_urgent + 1) % n;
                        lazy->n_urgent--;
                        lazy->is_urgent[*ret] = false;
                        found = lazy->states[*ret] == LAZY_TODO;
                } else if (lazy->cursor < n) {
                        *ret = (uint32_t)lazy->cursor++;
                        found = lazy->states[*ret] == LAZY_TODO;
                } else
                        pthread_cond_wait(&lazy->changed, &lazy->lock);
        }
        if (found)
                lazy->states[*ret] = LAZY_BUSY;
        pthread_mutex_unlock(&lazy->lock);
        return found;
}

/**
 * Gives a frame back that cannot be finished yet: somebody waits for another. Who began to wait for this one meanwhile
 * may not have got it, and waits on. With the lock.
 */
static void put_back(struct lazy *lazy, uint32_t frame) {
        bool wanted = lazy->is_urgent[frame];

        lazy->states[frame] = LAZY_TODO;
        lazy->is_urgent[frame] = false;
        if (frame < lazy->cursor)
                lazy->cursor = frame;
        if (wanted)
                lazy_urge(lazy, frame);
        pthread_cond_broadcast(&lazy->changed);
}

/* On the way through all processes that a frame has memory of, once. */
struct round {
        struct lazy_task *task; /* the one it is at; ours until the next is picked. NULL: it begins */
        size_t use;             /* of the frame: that process's */
        bool blocked;           /* one of them has no memory yet */
};

enum pick { PICKED, ROUND_ENDED, FINISHED, WAIT, LEFT };

/* The first in the rest of a list that has not got a frame. */
static struct lazy_task *first_without(struct lazy_task *task, uint32_t frame) {
        while (task && (lazy_task_has(task, frame) || atomic_load(&task->gone)))
                task = task->next;
        return task;
}

/* The next process of a round; with the lock. NULL: it is over */
static struct lazy_task *next_task(struct lazy *lazy, uint32_t number, struct round *round) {
        const struct lazy_plan *plan = lazy->options.plan;
        const struct lazy_frame *frame = &plan->frames[number];
        struct lazy_task *task = NULL;
        size_t i = 0;

        if (round->task) {
                round->task->users--;
                task = first_without(round->task->next, number);
                i = round->use + 1;
        }
        for (; !task && i < frame->n_uses; i++) {
                uint32_t at = plan->uses[frame->first_use + i].task;

                if (i > 0 && plan->uses[frame->first_use + i - 1].task == at)
                        continue;
                if (!lazy->arrived[at] && !lazy->over)
                        round->blocked = true;
                task = first_without(lazy->tasks[at], number);
                round->use = i;
        }
        if (task)
                task->users++;
        round->task = task;
        return task;
}

/**
 * The next process that has not got a frame yet. One that cannot have it yet must not keep the others from it: CRIU
 * may be waiting for them before it gives that one its memory. A child that was forked meanwhile has what its parent
 * had then, so it is finished when nobody is found in a whole round.
 */
static enum pick pick_task(struct lazy *lazy, uint32_t number, struct round *round) {
        enum pick pick = PICKED;
        bool begins = !round->task;

        pthread_mutex_lock(&lazy->lock);
        if (next_task(lazy, number, round))
                ;
        else if (round->blocked && lazy->n_urgent > 0) {
                put_back(lazy, number);
                pick = LEFT;
        } else if (round->blocked)
                pick = WAIT;
        else if (!begins)
                pick = ROUND_ENDED;
        else {
                lazy->states[number] = LAZY_DONE;
                lazy->is_urgent[number] = false;
                if (++lazy->n_done == lazy->options.plan->n_frames)
                        lazy_tell(lazy);
                pthread_cond_broadcast(&lazy->changed);
                pick = FINISHED;
        }
        pthread_mutex_unlock(&lazy->lock);
        return pick;
}

/**
 * One call of UFFDIO_COPY, or two. That there is no such memory is only true when nothing changes it: the kernel looks
 * whether an event is to be read before it looks at the memory, and we have the lock without which none is read. So
 * when it says the same twice, it was true the first time.
 */
static int copy_once(const struct lazy_task *task, uint64_t now, const uint8_t *from, size_t size, size_t *ret_done) {
        int r = uffd_copy(task->uffd, now, from, size, ret_done);

        return r == -ENOENT ? uffd_copy(task->uffd, now, from, size, ret_done) : r;
}

/* On the way through a piece. */
struct stretch {
        uint64_t at, end; /* addresses at the dump */
        size_t limit;     /* bytes at once: a mapping may have been split */
        unsigned n_memory;
};

/** What to do after a copy that failed. @return 0: go on; -EAGAIN: not mapped yet; other -errno: give up */
static int recover(struct lazy *lazy, struct lazy_task *task, struct stretch *stretch, uint64_t now, size_t size,
                   int r) {
        uffd_wake(task->uffd, now, size);
        switch (r) {
        case -EEXIST:
                stretch->at += LAZY_PAGE;
                return 0;
        case -EAGAIN:
                pause_ns(EVENT_PAUSE_NS);
                return 0;
        case -ENOENT:
                if (!atomic_load(&lazy->mapped))
                        return -EAGAIN;
                if (size > LAZY_PAGE)
                        stretch->limit = size / 2 / LAZY_PAGE * LAZY_PAGE;
                else
                        stretch->at += LAZY_PAGE; /* a child that has not inherited it */
                return 0;
        case -ESRCH:
        case -ENOSPC: /* before Linux 5.9 */
                atomic_store(&task->gone, true);
                return 0;
        case -ENOMEM:
                pause_ns(MEMORY_PAUSE_NS);
                return ++stretch->n_memory < MEMORY_ATTEMPTS ? 0 : r;
        case -EINTR:
                return 0;
        default:
                return r;
        }
}

static int copy_piece(struct lazy *lazy, struct lazy_task *task, const struct lazy_piece *piece, const uint8_t *data) {
        struct stretch stretch = { .at = piece->at, .end = piece->at + piece->count * LAZY_PAGE, .limit = SIZE_MAX };
        int r = 0;

        while (r == 0 && stretch.at < stretch.end && !atomic_load(&task->gone)) {
                uint64_t now, size;
                size_t done = 0;
                bool left;

                if (lazy_stopped(lazy))
                        return -ECANCELED;
                (void)pthread_rwlock_rdlock(&task->lock);
                left = lazy_task_locate(task, &stretch.at, stretch.end, &now, &size);
                if (left) {
                        if (size > stretch.limit)
                                size = stretch.limit;
                        r = copy_once(task, now, data + (stretch.at - piece->at), size, &done);
                }
                (void)pthread_rwlock_unlock(&task->lock);
                if (!left)
                        break;
                stretch.at += done;
                atomic_fetch_add(&lazy->pages, done / LAZY_PAGE);
                if (r < 0 && done > 0)
                        r = 0; /* why it ended the next one tells */
                else if (r < 0)
                        r = recover(lazy, task, &stretch, now, size, r);
                else if (stretch.limit < SIZE_MAX / 2)
                        stretch.limit *= 2;
        }
        return r;
}

/** Puts all of a frame into a process. @return 0; -EAGAIN: its memory is not there yet; other -errno with err */
static int copy_frame(struct copier *copier, struct lazy_task *task, uint32_t number, struct st_error **err) {
        const struct lazy_plan *plan = copier->lazy->options.plan;
        const struct lazy_frame *frame = &plan->frames[number];
        int r = 0;

        for (size_t i = 0; i < frame->n_uses && r == 0; i++) {
                const struct lazy_use *use = &plan->uses[frame->first_use + i];
                const struct lazy_piece *piece;

                if ((ssize_t)use->task != task->number)
                        continue;
                piece = &plan->tasks[use->task].pieces[use->piece];
                r = copy_piece(copier->lazy, task, piece, copier->data + piece->page * LAZY_PAGE);
        }
        if (r < 0 && r != -EAGAIN && r != -ECANCELED)
                return st_error_errno(err, r, "cannot put pages into process %d of the checkpoint",
                                      plan->tasks[task->number].pid);
        if (r < 0)
                return r;
        /* A child that was made after the last page came in gets this mark with the pages: its event waits for us. */
        (void)pthread_rwlock_rdlock(&task->lock);
        lazy_task_set(task, number, true);
        (void)pthread_rwlock_unlock(&task->lock);
        return 0;
}

static int do_frame(struct copier *copier, uint32_t number, struct st_error **err) {
        struct lazy *lazy = copier->lazy;
        const struct lazy_frame *frame = &lazy->options.plan->frames[number];
        struct round round = { 0 };
        int r = native_read_frame(lazy->options.plan->native, frame->source, frame->frame, copier->coder,
                                  copier->stored, copier->data, err);

        while (r >= 0 && !lazy_stopped(lazy)) {
                enum pick pick = pick_task(lazy, number, &round);

                if (pick == FINISHED || pick == LEFT)
                        return 0;
                if (pick == WAIT)
                        pause_ns(LAZY_RETRY_NS);
                if (pick != PICKED) {
                        round = (struct round){ 0 };
                        continue;
                }
                r = copy_frame(copier, round.task, number, err);
                if (r == -EAGAIN) {
                        round.blocked = true;
                        r = 0;
                }
        }
        return r;
}

void *lazy_copier_thread(void *userdata) {
        struct copier copier = {
                .lazy = userdata,
                .coder = native_coder_new(),
                .stored = malloc(NATIVE_STORED_MAX),
                .data = malloc(NATIVE_FRAME_MAX),
        };
        struct st_error *error = NULL;
        uint32_t frame;
        int r = 0;

        if (!copier.stored || !copier.data)
                r = st_error_errno(&error, ENOMEM, "cannot read the checkpoint");
        while (r >= 0 && take_frame(copier.lazy, &frame))
                r = do_frame(&copier, frame, &error);
        if (error)
                lazy_fail(copier.lazy, error);
        native_coder_free(copier.coder);
        free(copier.stored);
        free(copier.data);
        return NULL;
}
