/* SPDX-License-Identifier: Apache-2.0 */

/* Feeding one file to CRIU through a pipe. */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/native_feed.h"
#include "image/serving.h"
#include "image/threads.h"

/*
 * Pages go by reference (vmsplice) out of a ring of blocks that stays in the cache: measured, with 1 GiB from the page
 * cache, nearly as fast as CRIU's own preadv; larger pipes, larger blocks and write() were 10 to 60 % slower.
 */
#define PIPE_SIZE (1 << 20)
#define BLOCK ((size_t)128 << 10)
#define RING_BLOCKS (PIPE_SIZE / BLOCK + 4)
#define RING (RING_BLOCKS * BLOCK)
/**
 * A native image: memory for frames that are decoded ahead, of the first file that is fed and of each one beside it,
 * and how many threads decode for the first; the others, of trees of processes, have one each.
 */
#define AHEAD ((uint64_t)32 << 20)
#define AHEAD_BESIDE ((uint64_t)6 << 20)
#define DECODERS_MOST 8
/** Runs of pages shorter than this are copied into a block: most of a frame would be lent for few pages. */
#define LEND ((size_t)32 << 10)
/** After a stop, or when CRIU has ended: how long a pipe that nobody reads is waited for, milliseconds. */
#define PATIENCE_MS 1000

struct feeder {
        struct serve *serve;
        struct feed_source source;
        bool pages;
        int pipe_fd;
        uint64_t position, consumed; /* pushed into the pipe; of them taken out by CRIU, at least */
        uint64_t capacity;           /* of the pipe, bytes */
        bool full_seen;              /* the pipe was full with no more bytes than that */
        struct hasher *hasher;
        struct native_feed *native; /* of a native image; NULL: none */
        size_t taking;              /* bytes of it that were looked at, and pushed since */
        uint8_t *ring;
        size_t blocks;                   /* of the ring that were used, counted on */
        uint64_t ring_ends[RING_BLOCKS]; /* for each block the position behind its bytes */
        struct arrival *arrival, *last;  /* the piece that is fed; the last one of the file; NULL: not of an archive */
        size_t extent, offset;           /* in it */
        struct arrival *releasing;       /* the piece whose memory is given back next */
        size_t released;                 /* extents of it that were */
        uint64_t released_bytes;
        pthread_t thread;
        atomic_bool ended;
};

/** How much CRIU has taken out of the pipe: what is still in it must not be overwritten. */
static void look_at_pipe(struct feeder *feeder) {
        int pending;
        if (ioctl(feeder->pipe_fd, FIONREAD, &pending) == 0)
                feeder->consumed = feeder->position - (uint64_t)pending;
}

/**
 * The same without asking, which would wait for the pipe's lock while CRIU copies (8 % slower): what was pushed before
 * the last `capacity` bytes. That holds when a slot of the pipe takes no more than a page, see check_full().
 */
static void infer_consumed(struct feeder *feeder) {
        if (feeder->full_seen && feeder->position - feeder->consumed > feeder->capacity)
                feeder->consumed = feeder->position - feeder->capacity;
}

/** The pipe takes no more: has it as many bytes as it should have then? Not so when CRIU has begun to read. */
static void check_full(struct feeder *feeder) {
        if (!feeder->pages || feeder->full_seen)
                return;
        look_at_pipe(feeder);
        uint64_t pending = feeder->position - feeder->consumed;
        feeder->full_seen = pending > feeder->capacity / 2 && pending <= feeder->capacity;
}

/** Waits until the pipe has room. @return 0, -EPIPE when nobody will read on, -ECANCELED */
static int wait_for_reader(struct feeder *feeder) {
        struct serve *serve = feeder->serve;
        /*
         * CRIU copies what is not pages by splice(), in a loop that does not notice an early end (criu/files-reg.c):
         * such a file, checked before it was begun, is fed to its end even when all else stops.
         */
        struct pollfd fds[] = {
                { .fd = feeder->pipe_fd, .events = POLLOUT },
                { .fd = feeder->pages ? serve->stop_fd : -1, .events = POLLIN },
        };
        int n = poll(fds, ELEMENTSOF(fds), PATIENCE_MS);
        if (n < 0)
                return errno == EINTR ? 0 : -errno;
        if (fds[1].revents)
                return -ECANCELED;
        if (n == 0 && (serve_stopped(serve) || atomic_load(&serve->finishing)))
                return -EPIPE;
        return fds[0].revents & POLLERR ? -EPIPE : 0;
}

/** Pushes bytes into the pipe. Pages are lent, not copied: they must stay until they were consumed. */
static int push(struct feeder *feeder, const uint8_t *data, size_t length) {
        while (length > 0) {
                struct iovec iov = { (void *)data, length };
                ssize_t n = feeder->pages ? vmsplice(feeder->pipe_fd, &iov, 1, SPLICE_F_NONBLOCK)
                                          : write(feeder->pipe_fd, data, length);
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return -errno;
                if (n < 0) {
                        check_full(feeder);
                        int r = wait_for_reader(feeder);
                        if (r < 0)
                                return r;
                        continue;
                }
                data += n;
                length -= (size_t)n;
                feeder->position += (uint64_t)n;
        }
        return 0;
}

/** A block of the ring that CRIU has no reference to any more. @return its number, -EPIPE, -ENOMEM */
static int take_block(struct feeder *feeder) {
        if (!feeder->ring) {
                feeder->ring =
                        mmap(NULL, RING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
                if (feeder->ring == MAP_FAILED) {
                        feeder->ring = NULL;
                        return -ENOMEM;
                }
        }
        size_t block = feeder->blocks++ % RING_BLOCKS;
        infer_consumed(feeder);
        while (feeder->pages && feeder->ring_ends[block] > feeder->consumed) {
                look_at_pipe(feeder);
                if (feeder->ring_ends[block] <= feeder->consumed)
                        break;
                nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
                if (serve_stopped(feeder->serve) || atomic_load(&feeder->serve->finishing))
                        return -EPIPE;
        }
        return (int)block;
}

/** Reads up to a block of a file into the ring. */
static ssize_t read_block(struct feeder *feeder, int fd, off_t offset, uint64_t most, const uint8_t **ret,
                          struct st_error **err) {
        const struct manifest_entry *entry = feeder->source.entry;
        int number = take_block(feeder);
        if (number < 0)
                return number == -EPIPE ? number : st_error_errno(err, number, "cannot serve %s", entry->name);
        uint8_t *block = feeder->ring + (size_t)number * BLOCK;
        size_t want = most < BLOCK ? (size_t)most : BLOCK, have = 0;
        while (have < want) {
                ssize_t n = pread(fd, block + have, want - have, offset + (off_t)have);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return st_error_errno(err, errno, "cannot read %s of %s", entry->name,
                                              feeder->serve->image->path);
                if (n == 0)
                        return image_damaged(feeder->serve->image, entry->name, "became shorter", err);
                have += (size_t)n;
        }
        feeder->ring_ends[number] = feeder->position + have;
        *ret = block;
        return (ssize_t)have;
}

/** Copies short runs one after another into a block of the ring. @return bytes, or a negative errno */
static ssize_t gather(struct feeder *feeder, const uint8_t *piece, size_t n, const uint8_t **ret,
                      struct st_error **err) {
        int number = take_block(feeder);
        if (number < 0)
                return number == -EPIPE ? number
                                        : st_error_errno(err, number, "cannot serve %s", feeder->source.entry->name);
        uint8_t *block = feeder->ring + (size_t)number * BLOCK;
        size_t have = 0;
        while (n > 0 && n < LEND && n <= BLOCK - have) {
                memcpy(block + have, piece, n);
                have += n;
                native_feed_take(feeder->native, n, 0);
                n = native_feed_ready(feeder->native, BLOCK, &piece);
        }
        feeder->ring_ends[number] = feeder->position + have;
        *ret = block;
        return (ssize_t)have;
}

/** The next bytes of a native image's file: lent out of a decoded frame, or copied. */
static ssize_t read_native(struct feeder *feeder, const uint8_t **ret, struct st_error **err) {
        struct serve *serve = feeder->serve;
        const struct manifest_entry *entry = feeder->source.entry;
        if (feeder->taking > 0)
                native_feed_take(feeder->native, feeder->taking, feeder->pages ? feeder->position : 0);
        feeder->taking = 0;
        for (;;) {
                infer_consumed(feeder);
                if (!feeder->full_seen)
                        look_at_pipe(feeder);
                native_feed_consumed(feeder->native, feeder->consumed);
                ssize_t n = native_feed_peek(feeder->native, BLOCK, ret, err);
                if (n == 0)
                        return image_damaged(serve->image, entry->name, "is shorter than it should be", err);
                if (n > 0 && feeder->pages && (size_t)n < LEND)
                        return gather(feeder, *ret, (size_t)n, ret, err);
                if (n > 0)
                        feeder->taking = (size_t)n;
                else if (n != -EAGAIN)
                        st_error_wrap(err, "cannot read %s of %s", entry->name, serve->image->path);
                if (n != -EAGAIN)
                        return n;
                if (atomic_load(&serve->finishing) || (feeder->pages && serve_stopped(serve)))
                        return -ECANCELED;
                look_at_pipe(feeder); /* what is lent may be what the decoders wait for */
        }
}

/** Finds the next bytes of a file in the store; with the lock held. @return the extent they are in; NULL: none yet */
static const struct store_extent *find_extent(struct feeder *feeder) {
        for (;;) {
                const struct store_file *file = feeder->arrival->file;
                while (file && feeder->extent + 1 < file->n_extents &&
                       feeder->offset == file->extents[feeder->extent].length) {
                        feeder->extent++;
                        feeder->offset = 0;
                }
                if (file && feeder->extent < file->n_extents && feeder->offset < file->extents[feeder->extent].length)
                        return &file->extents[feeder->extent];
                if (!feeder->arrival->complete || feeder->arrival == feeder->last)
                        return NULL;
                feeder->arrival++;
                feeder->extent = feeder->offset = 0;
        }
}

/** Waits for bytes of a file in the store. @return 0 with a copy of the extent they are in, -ECANCELED */
static int wait_for_extent(struct feeder *feeder, struct store_extent *ret) {
        struct serve *serve = feeder->serve;
        int r = -ECANCELED;
        assert(feeder->arrival); /* what is neither in memory nor in a directory comes out of an archive */
        pthread_mutex_lock(&serve->lock);
        while (!atomic_load(&serve->finishing) && (!serve_stopped(serve) || feeder->arrival->complete)) {
                const struct store_extent *extent = find_extent(feeder);
                if (extent) {
                        *ret = *extent;
                        r = 0;
                        break;
                }
                if (feeder->arrival->complete)
                        break;
                serve_starve(serve);
        }
        pthread_mutex_unlock(&serve->lock);
        return r;
}

static ssize_t read_store(struct feeder *feeder, const uint8_t **ret, struct st_error **err) {
        struct store_extent extent;
        int r = wait_for_extent(feeder, &extent);
        if (r < 0)
                return r;
        size_t n = extent.length - feeder->offset;
        n = n < BLOCK ? n : BLOCK;
        if (extent.data) {
                *ret = extent.data + feeder->offset;
        } else {
                ssize_t got = read_block(feeder, feeder->serve->store->spill_fd, extent.offset + (off_t)feeder->offset,
                                         n, ret, err);
                if (got < 0)
                        return got;
        }
        feeder->offset += n;
        return (ssize_t)n;
}

/** Gives memory back that CRIU has read: the thread that unpacks may be waiting for it. */
static void release(struct feeder *feeder) {
        struct serve *serve = feeder->serve;
        infer_consumed(feeder);
        if (!feeder->full_seen)
                look_at_pipe(feeder);
        bool any = false;
        pthread_mutex_lock(&serve->lock);
        for (;;) {
                struct store_file *file = feeder->releasing->file;
                bool left = feeder->releasing != feeder->arrival; /* the feeder has left that piece */
                if (left && feeder->released == file->n_extents) {
                        feeder->releasing++;
                        feeder->released = 0;
                        continue;
                }
                if ((!left && feeder->released >= feeder->extent) ||
                    feeder->released_bytes + file->extents[feeder->released].length > feeder->consumed)
                        break;
                feeder->released_bytes += file->extents[feeder->released].length;
                store_release(serve->store, file, feeder->released++);
                any = true;
        }
        if (any)
                pthread_cond_broadcast(&serve->changed);
        pthread_mutex_unlock(&serve->lock);
}

/** The next piece of the file, at least a byte. */
static ssize_t next_piece(struct feeder *feeder, const uint8_t **ret, struct st_error **err) {
        const struct feed_source *source = &feeder->source;
        uint64_t left = source->entry->size - feeder->position;
        if (source->data) {
                *ret = source->data + feeder->position;
                return (ssize_t)left;
        }
        if (source->fd >= 0)
                return read_block(feeder, source->fd, (off_t)feeder->position, left, ret, err);
        if (feeder->native)
                return read_native(feeder, ret, err);
        return read_store(feeder, ret, err);
}

/** The last block is held back until all is known to be right. @return 0; -ECANCELED; -EBADMSG with err */
static int check_end(struct feeder *feeder, struct st_error **err) {
        const struct manifest_entry *entry = feeder->source.entry;
        if (feeder->hasher && !hash_equal(hasher_finish(feeder->hasher), entry->hash))
                return image_damaged(feeder->serve->image, entry->name, "has a wrong checksum", err);
        return serve_is_last(feeder->serve, entry) ? serve_wait_sealed(feeder->serve) : 0;
}

/** @return 0; -EPIPE, -ECANCELED: nobody wants more; other negative errno with err */
static int feed(struct feeder *feeder, struct st_error **err) {
        const struct manifest_entry *entry = feeder->source.entry;
        while (feeder->position < entry->size) {
                const uint8_t *piece = NULL;
                if (feeder->pages && serve_stopped(feeder->serve))
                        return -ECANCELED;
                ssize_t n = next_piece(feeder, &piece, err);
                if (n < 0)
                        return (int)n;
                if (feeder->hasher)
                        hasher_update(feeder->hasher, piece, (size_t)n);
                int r = feeder->position + (uint64_t)n == entry->size ? check_end(feeder, err) : 0;
                if (r < 0)
                        return r;
                r = push(feeder, piece, (size_t)n);
                if (r == -EPIPE || r == -ECANCELED)
                        return r;
                if (r < 0)
                        return st_error_errno(err, r, "cannot hand %s to CRIU", entry->name);
                serve_count(feeder->serve, (uint64_t)n);
                if (feeder->arrival && feeder->pages)
                        release(feeder);
        }
        return 0;
}

static void feeder_free(struct feeder *feeder) {
        if (feeder->pipe_fd >= 0)
                close(feeder->pipe_fd);
        if (feeder->source.fd >= 0)
                close(feeder->source.fd);
        free(feeder->source.data);
        native_feed_free(feeder->native); /* what is lent to the pipe stays, as the ring does */
        if (feeder->ring)
                munmap(feeder->ring, RING); /* what is still in the pipe stays until it was read */
        hasher_free(feeder->hasher);
        free(feeder);
}

static void *feeder_thread(void *userdata) {
        struct feeder *feeder = userdata;
        struct serve *serve = feeder->serve;
        struct st_error *error = NULL;
        feed(feeder, &error);
        if (error)
                serve_fail(serve, error);
        close(feeder->pipe_fd);
        feeder->pipe_fd = -EBADF;

        pthread_mutex_lock(&serve->lock);
        serve->n_feeding--;
        pthread_cond_broadcast(&serve->changed);
        pthread_mutex_unlock(&serve->lock);
        atomic_store(&feeder->ended, true);
        return NULL;
}

bool feed_ended(const struct feeder *feeder) {
        return atomic_load(&feeder->ended);
}

void feed_join(struct feeder *feeder) {
        pthread_join(feeder->thread, NULL);
        feeder_free(feeder);
}

/** Writes a small file into a fresh pipe. @return whether it went in wholly, or nobody wants it */
static bool feed_at_once(struct feeder *feeder) {
        while (feeder->position < feeder->source.entry->size) {
                ssize_t n = write(feeder->pipe_fd, feeder->source.data + feeder->position,
                                  (size_t)(feeder->source.entry->size - feeder->position));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno != EAGAIN;
                feeder->position += (uint64_t)n;
        }
        return true;
}

/** Begins decoding a native image's file. @return 0 or -errno */
static int start_decoding(struct feeder *feeder, bool first) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        unsigned threads = first && cores > 1 ? (unsigned)cores : 1;
        return native_feed_new(feeder->serve->image->native, feeder->source.file,
                               threads < DECODERS_MOST ? threads : DECODERS_MOST, first ? AHEAD : AHEAD_BESIDE,
                               &feeder->native);
}

static void start_thread(struct serve *serve, struct feeder *feeder) {
        pthread_mutex_lock(&serve->lock);
        bool first = serve->n_feeding++ == 0;
        pthread_mutex_unlock(&serve->lock);
        int r = feeder->source.file ? start_decoding(feeder, first) : 0;
        if (r == 0)
                r = threads_start(&feeder->thread, feeder_thread, feeder);
        if (r < 0) {
                struct st_error *error = NULL;
                pthread_mutex_lock(&serve->lock);
                serve->n_feeding--;
                pthread_mutex_unlock(&serve->lock);
                st_error_errno(&error, r, "cannot serve %s: no thread", feeder->source.entry->name);
                serve_fail(serve, error);
                feeder_free(feeder);
                return;
        }
        GROW(serve->feeders, serve->n_feeders, serve->room_feeders);
        serve->feeders[serve->n_feeders++] = feeder;
}

void feed_start(struct serve *serve, int pipe_fd, struct feed_source *source) {
        struct feeder *feeder = NEW(struct feeder);
        feeder->serve = serve;
        feeder->source = *source;
        feeder->pipe_fd = pipe_fd;
        feeder->pages = streamer_is_pages(source->entry->name);
        feeder->hasher = source->verify ? hasher_new() : NULL;
        source->fd = -EBADF;
        source->data = NULL;

        if (feeder->source.data) {
                bool done = feed_at_once(feeder);
                serve_count(serve, feeder->position);
                if (done) {
                        feeder_free(feeder);
                        return;
                }
                feeder->pages = false; /* rest of a heap buffer: copied */
        } else {
                int capacity = streamer_grow_pipe(pipe_fd, PIPE_SIZE);
                feeder->capacity = capacity > 0 ? (uint64_t)capacity : PIPE_SIZE;
                if (serve->store && !feeder->source.file) {
                        const struct manifest_entry *entry = feeder->source.entry;
                        feeder->arrival = feeder->releasing = serve_arrival(serve, entry);
                        feeder->last = serve_arrival(serve, entry + 1) - 1;
                }
        }
        start_thread(serve, feeder);
}
