/* SPDX-License-Identifier: Apache-2.0 */
#include "image/native_feed.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/threads.h"

/** How many extents are looked ahead, at most. */
#define QUEUE 1024
#define SLOTS_LEAST 3
/** Pages that are zero come out of a mapping of so many bytes. */
#define ZEROS ((size_t)128 << 10)
#define NO_SLOT SIZE_MAX

enum slot_state { EMPTY, DECODING, READY, FAILED };

/** A buffer with a decoded frame. */
struct slot {
        enum slot_state state;
        uint32_t source, frame;
        uint8_t *bytes;      /* mapped when first needed */
        unsigned users;      /* extents of the queue that are in it */
        uint64_t lent_until; /* the position that must be consumed before it is used for another frame */
        uint64_t used;       /* when it was last in demand, the latest highest */
};

/** An extent, or what is left of it. */
struct step {
        size_t slot;     /* NO_SLOT: zeros */
        uint64_t offset; /* in the frame */
        uint64_t length;
};

struct native_feed {
        const struct native *native;
        const struct native_file *file;
        uint8_t *zeros;
        size_t slot_size;

        pthread_mutex_t lock; /* of all below */
        pthread_cond_t room, ready;
        bool stopped;
        struct st_error *error; /* the first, until it was told */
        int result;             /* its number */
        struct slot *slots;
        size_t n_slots;
        uint64_t clock, consumed;
        uint32_t planned; /* extents of the file that are in the queue or behind it */
        struct step queue[QUEUE];
        size_t first, n_queued;
        pthread_t *threads;
        unsigned n_threads; /* that were started */
};

static bool is_stale(const struct native_feed *feed, const struct slot *slot) {
        return slot->users == 0 && slot->state != DECODING && slot->lent_until <= feed->consumed;
}

/** The slot that has a frame, or the one to put it into. @return NO_SLOT: all are in use */
static size_t find_slot(const struct native_feed *feed, uint32_t source, uint32_t frame) {
        size_t found = NO_SLOT;
        for (size_t i = 0; i < feed->n_slots; i++) {
                const struct slot *slot = &feed->slots[i];
                if (slot->state != EMPTY && slot->source == source && slot->frame == frame)
                        return i;
                if (is_stale(feed, slot) && (found == NO_SLOT || slot->used < feed->slots[found].used))
                        found = i;
        }
        return found;
}

static void enqueue(struct native_feed *feed, size_t slot, uint64_t offset, uint64_t length) {
        feed->queue[(feed->first + feed->n_queued++) % QUEUE] = (struct step){ slot, offset, length };
        feed->planned++;
        if (slot != NO_SLOT) {
                feed->slots[slot].users++;
                feed->slots[slot].used = ++feed->clock;
        }
        pthread_cond_signal(&feed->ready);
}

/** Looks ahead, up to an extent whose frame is in no slot. @return the slot to decode it to; NO_SLOT: not now */
static size_t plan(struct native_feed *feed) {
        const struct native_file *file = feed->file;
        while (feed->planned < file->n && feed->n_queued < QUEUE) {
                uint32_t source = 0, frame;
                uint64_t offset, length;
                if (file->kind == NATIVE_PAGES) {
                        const struct native_run *run = &file->runs[feed->planned];
                        source = run->source;
                        frame = run->frame;
                        offset = run->page * (uint64_t)NATIVE_PAGE;
                        length = run->count * (uint64_t)NATIVE_PAGE;
                        if (source == NATIVE_ZERO) {
                                enqueue(feed, NO_SLOT, 0, length);
                                continue;
                        }
                } else {
                        const struct native_extent *extent = &file->extents[feed->planned];
                        frame = extent->frame;
                        offset = extent->offset;
                        length = extent->length;
                }
                size_t found = find_slot(feed, source, frame);
                if (found == NO_SLOT)
                        return NO_SLOT;
                struct slot *slot = &feed->slots[found];
                bool there = slot->state != EMPTY && slot->source == source && slot->frame == frame;
                enqueue(feed, found, offset, length);
                if (there)
                        continue;
                slot->state = DECODING;
                slot->source = source;
                slot->frame = frame;
                return found;
        }
        return NO_SLOT;
}

static int decode(const struct native_feed *feed, struct slot *slot, struct native_coder *coder, uint8_t *stored,
                  struct st_error **err) {
        if (!stored)
                return st_error_errno(err, ENOMEM, "cannot read a frame of %s", feed->native->sources[0].path);
        if (!slot->bytes) {
                void *bytes = mmap(NULL, feed->slot_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                if (bytes == MAP_FAILED)
                        return st_error_errno(err, errno, "cannot read a frame of %s", feed->native->sources[0].path);
                slot->bytes = bytes;
        }
        return native_read_frame(feed->native, slot->source, slot->frame, coder, stored, slot->bytes, err);
}

static void *decoder_thread(void *userdata) {
        struct native_feed *feed = userdata;
        _cleanup_(native_coder_freep) struct native_coder *coder = native_coder_new();
        _cleanup_free_ uint8_t *stored = malloc(NATIVE_STORED_MAX);
        pthread_mutex_lock(&feed->lock);
        while (!feed->stopped && feed->result == 0) {
                size_t found = plan(feed);
                if (found == NO_SLOT) {
                        if (feed->planned == feed->file->n)
                                break;
                        pthread_cond_wait(&feed->room, &feed->lock);
                        continue;
                }
                struct slot *slot = &feed->slots[found];
                struct st_error *error = NULL;
                pthread_cond_signal(&feed->room); /* there may be room for another thread's, too */
                pthread_mutex_unlock(&feed->lock);
                int r = decode(feed, slot, coder, stored, &error);
                pthread_mutex_lock(&feed->lock);
                slot->state = r < 0 ? FAILED : READY;
                if (r < 0 && feed->result == 0) {
                        feed->result = r;
                        feed->error = TAKE_PTR(error);
                        pthread_cond_broadcast(&feed->room);
                }
                st_error_free(error);
                pthread_cond_signal(&feed->ready);
        }
        pthread_mutex_unlock(&feed->lock);
        return NULL;
}

/** As large as the largest of the frames that it needs, and no more of them than are needed. */
static int make_slots(struct native_feed *feed, uint64_t memory) {
        const struct native_file *file = feed->file;
        size_t largest = NATIVE_PAGE;
        for (uint32_t i = 0; i < file->n; i++) {
                uint32_t source = file->kind == NATIVE_PAGES ? file->runs[i].source : 0;
                uint32_t frame = file->kind == NATIVE_PAGES ? file->runs[i].frame : file->extents[i].frame;
                if (source != NATIVE_ZERO && feed->native->sources[source].frames[frame].decoded > largest)
                        largest = feed->native->sources[source].frames[frame].decoded;
        }
        feed->slot_size = (largest + NATIVE_PAGE - 1) / NATIVE_PAGE * NATIVE_PAGE;
        feed->n_slots = (size_t)(memory / feed->slot_size);
        if (feed->n_slots < SLOTS_LEAST)
                feed->n_slots = SLOTS_LEAST;
        feed->slots = xcalloc(feed->n_slots, sizeof(*feed->slots));
        void *zeros = mmap(NULL, ZEROS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (zeros == MAP_FAILED)
                return -errno;
        feed->zeros = zeros;
        return 0;
}

int native_feed_new(const struct native *native, const struct native_file *file, unsigned threads, uint64_t memory,
                    struct native_feed **ret) {
        struct native_feed *feed = NEW(struct native_feed);
        pthread_mutex_init(&feed->lock, NULL);
        pthread_cond_init(&feed->room, NULL);
        pthread_cond_init(&feed->ready, NULL);
        feed->native = native;
        feed->file = file;
        feed->threads = xcalloc(threads, sizeof(*feed->threads));
        int r = make_slots(feed, memory);
        while (r == 0 && feed->n_threads < threads) {
                r = threads_start(&feed->threads[feed->n_threads], decoder_thread, feed);
                feed->n_threads += r == 0;
        }
        if (feed->n_threads == 0) {
                native_feed_free(feed);
                return r;
        }
        *ret = feed;
        return 0; /* fewer threads do, too */
}

struct native_feed *native_feed_free(struct native_feed *feed) {
        if (!feed)
                return NULL;
        pthread_mutex_lock(&feed->lock);
        feed->stopped = true;
        pthread_cond_broadcast(&feed->room);
        pthread_mutex_unlock(&feed->lock);
        while (feed->n_threads > 0)
                pthread_join(feed->threads[--feed->n_threads], NULL);
        for (size_t i = 0; i < feed->n_slots; i++)
                if (feed->slots[i].bytes)
                        munmap(feed->slots[i].bytes, feed->slot_size);
        if (feed->zeros)
                munmap(feed->zeros, ZEROS);
        st_error_free(feed->error);
        free(feed->slots);
        free(feed->threads);
        pthread_cond_destroy(&feed->room);
        pthread_cond_destroy(&feed->ready);
        pthread_mutex_destroy(&feed->lock);
        free(feed);
        return NULL;
}

/** With the lock held. @return 0: not ready */
static size_t look(const struct native_feed *feed, size_t most, const uint8_t **ret) {
        if (feed->n_queued == 0)
                return 0;
        const struct step *step = &feed->queue[feed->first];
        if (step->slot == NO_SLOT) {
                *ret = feed->zeros;
                most = most < ZEROS ? most : ZEROS;
        } else {
                const struct slot *slot = &feed->slots[step->slot];
                if (slot->state != READY)
                        return 0;
                *ret = slot->bytes + step->offset;
        }
        return step->length < most ? (size_t)step->length : most;
}

static void wait_a_moment(struct native_feed *feed) {
        struct timespec end;
        clock_gettime(CLOCK_REALTIME, &end);
        end.tv_nsec += 1000000;
        if (end.tv_nsec >= 1000000000) {
                end.tv_nsec -= 1000000000;
                end.tv_sec++;
        }
        pthread_cond_timedwait(&feed->ready, &feed->lock, &end);
}

ssize_t native_feed_peek(struct native_feed *feed, size_t most, const uint8_t **ret, struct st_error **err) {
        pthread_mutex_lock(&feed->lock);
        bool over = feed->n_queued == 0 && feed->planned == feed->file->n;
        size_t n = look(feed, most, ret);
        if (n == 0 && !over && feed->result == 0) {
                wait_a_moment(feed);
                n = look(feed, most, ret);
        }
        ssize_t result = n > 0 ? (ssize_t)n : over ? 0 : -EAGAIN;
        if (feed->result < 0) { /* at once, also when there is something before it */
                result = feed->result;
                if (feed->error)
                        st_error_move(err, TAKE_PTR(feed->error));
        }
        pthread_mutex_unlock(&feed->lock);
        return result;
}

size_t native_feed_ready(struct native_feed *feed, size_t most, const uint8_t **ret) {
        pthread_mutex_lock(&feed->lock);
        size_t n = feed->result == 0 ? look(feed, most, ret) : 0;
        pthread_mutex_unlock(&feed->lock);
        return n;
}

void native_feed_take(struct native_feed *feed, size_t length, uint64_t until) {
        pthread_mutex_lock(&feed->lock);
        struct step *step = &feed->queue[feed->first];
        struct slot *slot = step->slot == NO_SLOT ? NULL : &feed->slots[step->slot];
        step->length -= length;
        if (slot) {
                step->offset += length;
                slot->lent_until = until > slot->lent_until ? until : slot->lent_until;
        }
        if (step->length == 0) {
                feed->first = (feed->first + 1) % QUEUE;
                feed->n_queued--;
                if (slot)
                        slot->users--;
                pthread_cond_signal(&feed->room);
        }
        pthread_mutex_unlock(&feed->lock);
}

void native_feed_consumed(struct native_feed *feed, uint64_t position) {
        pthread_mutex_lock(&feed->lock);
        if (position > feed->consumed) {
                feed->consumed = position;
                pthread_cond_signal(&feed->room);
        }
        pthread_mutex_unlock(&feed->lock);
}
