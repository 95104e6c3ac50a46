/* SPDX-License-Identifier: Apache-2.0 */
#include "image/native_encoder.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/native_parent.h"
#include "image/pool.h"
#include "image/threads.h"

#define FRAME (PAGE_TABLE_FRAME * NATIVE_PAGE)
#define LOW_PRIORITY 10
/** So many pages in a row, at least, are dense or not. */
#define GROUP 4
#define DENSE_SAMPLES 256
#define DENSE_STEP 15
#define DENSE_SUM 620
/** How much is handed to the disk at once while more is being made. */
#define WRITEBACK_STEP ((uint64_t)8 << 20)

/** A frame that a thread fills. */
struct filling {
        uint8_t *bytes; /* room for FRAME, allocated when it is first opened */
        size_t n;
        uint32_t number;
        bool open;
};

/** A thread's own. */
struct worker {
        struct native_encoder *encoder;
        struct native_coder *coder;
        struct filling pages, dense, data; /* dense: of pages that do not compress */
        bool is_dense;                     /* so was the last page */
        uint8_t *stored;
        uint8_t split[NATIVE_PAGE]; /* the beginning of a page whose end is in the next extent */
        size_t n_split;
        bool low; /* its priority */
};

static int no_memory(struct st_error **err) {
        return st_error_errno(err, ENOMEM, "cannot encode the checkpoint");
}

static int open_frame(struct worker *worker, struct filling *filling, struct st_error **err) {
        struct native_encoder *encoder = worker->encoder;
        if (!filling->bytes && !(filling->bytes = malloc(FRAME)))
                return no_memory(err);
        pthread_mutex_lock(&encoder->lock);
        bool full = encoder->n_frames == NATIVE_FRAMES_MAX;
        if (!full) {
                GROW(encoder->frames, encoder->n_frames, encoder->room_frames);
                filling->number = encoder->n_frames++;
                encoder->frames[filling->number] = (struct native_frame){ 0 };
        }
        pthread_mutex_unlock(&encoder->lock);
        if (full)
                return st_error_set(err, E2BIG, "the process is too large for one image");
        if (filling != &worker->data)
                page_table_open_frame(encoder->table, filling->number);
        filling->open = true;
        filling->n = 0;
        return 0;
}

static int write_all(int fd, const uint8_t *data, size_t size, uint64_t offset) {
        while (size > 0) {
                ssize_t n = pwrite(fd, data, size, (off_t)offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -ENOSPC;
                data += n;
                size -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

int native_encoder_write(struct native_encoder *encoder, const void *data, size_t size, uint64_t offset,
                         struct st_error **err) {
        int r = write_all(encoder->fd, data, size, offset);
        if (r < 0)
                return writing_failed(encoder->writing, r, err);
        uint64_t sent = atomic_load(&encoder->sent);
        /* What others have not written by then is left to the sync at the end. */
        if (offset >= sent + WRITEBACK_STEP && atomic_compare_exchange_strong(&encoder->sent, &sent, offset))
                (void)sync_file_range(encoder->fd, (off_t)sent, (off_t)(offset - sent), SYNC_FILE_RANGE_WRITE);
        return 0;
}

/** Encodes and writes a frame. */
static int close_frame(struct worker *worker, struct filling *filling, struct st_error **err) {
        struct native_encoder *encoder = worker->encoder;
        filling->open = false;
        if (filling->n == 0)
                return 0;
        struct native_frame frame = {
                .decoded = (uint32_t)filling->n,
                .kind = filling == &worker->data ? NATIVE_DATA : NATIVE_PAGES,
        };
        ssize_t n = native_encode(worker->coder, encoder->writing->options->codec, filling->bytes, filling->n,
                                  worker->stored, &frame.codec);
        if (n < 0)
                return no_memory(err);
        frame.stored = (uint32_t)n;
        frame.digest = hash_of(worker->stored, (size_t)n);
        frame.offset = atomic_fetch_add(&encoder->offset, (uint64_t)n);
        int r = native_encoder_write(encoder, worker->stored, (size_t)n, frame.offset, err);
        if (r < 0)
                return r;
        pthread_mutex_lock(&encoder->lock);
        encoder->frames[filling->number] = frame;
        pthread_mutex_unlock(&encoder->lock);
        return 0;
}

static void add_run(struct native_job *job, struct page_place place) {
        struct native_file *result = &job->result;
        if (result->n > 0) {
                struct native_run *last = &result->runs[result->n - 1];
                if (native_run_continues(last, place.source, place.frame, place.page)) {
                        last->count++;
                        return;
                }
        }
        GROW(result->runs, result->n, job->room_result);
        result->runs[result->n++] = (struct native_run){ 1, place.frame, place.page, place.source };
}

/**
 * Are its bytes as good as random? Of each value there is then one among 256, give or take, and the sum of the squares
 * of their numbers is 511 with a deviation of 23; text has ten times as much.
 */
static bool is_dense(const uint8_t *page) {
        uint16_t counts[256] = { 0 };
        unsigned sum = 0;
        for (size_t i = 0; i < DENSE_SAMPLES; i++)
                counts[page[i * DENSE_STEP]]++;
        for (size_t i = 0; i < ELEMENTSOF(counts); i++)
                sum += (unsigned)counts[i] * counts[i];
        return sum < DENSE_SUM;
}

/**
 * Pages that do not compress have frames of their own. Among others they cost a codec as much time as these: half
 * random, half text zstd -1 packs by a third faster like that, and 4 % smaller. One page alone does not count, so that
 * what is one behind the other in memory mostly is so in a frame, too.
 */
static struct filling *filling_for(struct worker *worker, const uint8_t *page, size_t n) {
        bool changes = true;
        for (size_t at = 0; at < GROUP * NATIVE_PAGE && at + NATIVE_PAGE <= n && changes; at += NATIVE_PAGE)
                changes = is_dense(page + at) != worker->is_dense;
        worker->is_dense ^= changes;
        return worker->is_dense ? &worker->dense : &worker->pages;
}

/** @param n the bytes from that page on that are known, at least those of it */
static int add_page(struct worker *worker, struct native_job *job, const uint8_t *page, size_t n,
                    struct st_error **err) {
        static const struct page_place zero = { .source = NATIVE_ZERO };
        struct native_encoder *encoder = worker->encoder;
        if (native_page_is_zero(page)) {
                add_run(job, zero);
                return 0;
        }
        struct filling *filling = filling_for(worker, page, n);
        if (!filling->open) {
                int r = open_frame(worker, filling, err);
                if (r < 0)
                        return r;
        }
        struct page_place place = { .frame = filling->number, .page = (uint16_t)(filling->n / NATIVE_PAGE) };
        if (!page_table_add(encoder->table, native_page_digest(page, encoder->header.seed), place, &place)) {
                memcpy(filling->bytes + filling->n, page, NATIVE_PAGE);
                filling->n += NATIVE_PAGE;
        }
        add_run(job, place);
        return filling->n == FRAME ? close_frame(worker, filling, err) : 0;
}

static int add_pages(struct worker *worker, struct native_job *job, const uint8_t *data, size_t n,
                     struct st_error **err) {
        while (n > 0) {
                size_t step = NATIVE_PAGE;
                int r = 0;
                if (worker->n_split > 0 || n < NATIVE_PAGE) {
                        step = NATIVE_PAGE - worker->n_split < n ? NATIVE_PAGE - worker->n_split : n;
                        memcpy(worker->split + worker->n_split, data, step);
                        worker->n_split = (worker->n_split + step) % NATIVE_PAGE;
                        if (worker->n_split == 0)
                                r = add_page(worker, job, worker->split, NATIVE_PAGE, err);
                } else
                        r = add_page(worker, job, data, n, err);
                if (r < 0)
                        return r;
                data += step;
                n -= step;
        }
        return 0;
}

static void add_extent(struct native_job *job, struct native_extent extent) {
        struct native_file *result = &job->result;
        if (result->n > 0) {
                struct native_extent *last = &result->extents[result->n - 1];
                if (last->frame == extent.frame && last->offset + last->length == extent.offset) {
                        last->length += extent.length;
                        return;
                }
        }
        GROW(result->extents, result->n, job->room_result);
        result->extents[result->n++] = extent;
}

static int add_data(struct worker *worker, struct native_job *job, const uint8_t *data, size_t n,
                    struct st_error **err) {
        struct filling *filling = &worker->data;
        while (n > 0) {
                int r = filling->open ? 0 : open_frame(worker, filling, err);
                if (r < 0)
                        return r;
                size_t step = FRAME - filling->n < n ? FRAME - filling->n : n;
                add_extent(job, (struct native_extent){ (uint32_t)step, filling->number, (uint32_t)filling->n });
                memcpy(filling->bytes + filling->n, data, step);
                filling->n += step;
                data += step;
                n -= step;
                r = filling->n == FRAME ? close_frame(worker, filling, err) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_bytes(struct worker *worker, struct native_job *job, const uint8_t *data, size_t n,
                     struct st_error **err) {
        int r = job->kind == NATIVE_PAGES ? add_pages(worker, job, data, n, err) : add_data(worker, job, data, n, err);
        return r < 0 ? r : writing_step(worker->encoder->writing, n, err);
}

/** The memory of what is encoded is not needed any more. */
static void release(struct native_job *job, struct store *store) {
        uint64_t left = job->length;
        for (size_t i = job->extent, at = job->at; left > 0; i++, at = 0) {
                size_t length = job->file->extents[i].length;
                if (at > 0 || length > left)
                        left -= length - at < left ? length - at : left; /* a part of it is another job's */
                else {
                        store_discard(store, job->file, i);
                        left -= length;
                }
        }
}

static int do_stored_job(struct worker *worker, struct native_job *job, struct st_error **err) {
        struct store *store = worker->encoder->writing->store;
        _cleanup_(store_reader_clear) struct store_reader reader = {
                .store = store,
                .file = job->file,
                .extent = job->extent,
                .position = job->at,
        };
        for (uint64_t left = job->length; left > 0;) {
                const uint8_t *data;
                ssize_t got = store_read(&reader, &data);
                if (got <= 0)
                        return st_error_errno(err, got < 0 ? (int)got : EIO, "cannot read back %s", job->file->name);
                size_t n = (uint64_t)got < left ? (size_t)got : (size_t)left;
                int r = add_bytes(worker, job, data, n, err);
                if (r < 0)
                        return r;
                left -= n;
        }
        release(job, store);
        return 0;
}

/** A chunk that the store gave away goes back, whatever became of it. */
static int do_given_job(struct worker *worker, struct native_job *job, struct st_error **err) {
        struct native_encoder *encoder = worker->encoder;
        int r = add_bytes(worker, job, job->chunk, (size_t)job->length, err);
        pool_give(encoder->writing->store->pool, job->chunk, job->room);
        pthread_mutex_lock(&encoder->lock);
        encoder->outstanding--;
        encoder->returned++;
        pthread_cond_broadcast(&encoder->changed);
        pthread_mutex_unlock(&encoder->lock);
        return r;
}

/** @return the next job; NULL: there is none any more */
static struct native_job *next_job(struct native_encoder *encoder) {
        struct native_job *job = NULL;
        pthread_mutex_lock(&encoder->lock);
        while (encoder->next == encoder->n_jobs && !encoder->closed && encoder->result == 0)
                pthread_cond_wait(&encoder->changed, &encoder->lock);
        if (encoder->next < encoder->n_jobs && encoder->result == 0)
                job = encoder->jobs[encoder->next++];
        pthread_mutex_unlock(&encoder->lock);
        return job;
}

/* While the target is frozen, who copies its memory goes first. */
static void set_priority(struct worker *worker) {
        bool low = atomic_load(&worker->encoder->writing->silent);
        if (low != worker->low && setpriority(PRIO_PROCESS, (id_t)gettid(), low ? LOW_PRIORITY : 0) == 0)
                worker->low = low;
}

static int do_jobs(struct worker *worker, struct st_error **err) {
        struct native_job *job;
        worker->stored = malloc(NATIVE_STORED_MAX); /* of which only what is needed becomes memory */
        if (!worker->stored)
                return no_memory(err);
        while ((job = next_job(worker->encoder))) {
                worker->n_split = 0;
                set_priority(worker);
                int r = job->chunk ? do_given_job(worker, job, err) : do_stored_job(worker, job, err);
                if (r < 0)
                        return r;
        }
        struct filling *const open[] = { &worker->data, &worker->pages, &worker->dense };
        int r = 0;
        for (size_t i = 0; i < ELEMENTSOF(open) && r == 0; i++)
                r = open[i]->open ? close_frame(worker, open[i], err) : 0;
        return r;
}

/** Only the first error counts: those of the others, that they were told to stop, are its effects. */
static void fail(struct native_encoder *encoder, int result, struct st_error *error) {
        pthread_mutex_lock(&encoder->lock);
        if (encoder->result == 0) {
                encoder->result = result;
                encoder->error = error;
                error = NULL;
        }
        atomic_store(&encoder->writing->failed, true);
        pthread_cond_broadcast(&encoder->changed);
        pthread_mutex_unlock(&encoder->lock);
        st_error_free(error);
}

static void *work(void *userdata) {
        struct native_encoder *encoder = userdata;
        struct worker worker = { .encoder = encoder, .coder = native_coder_new() };
        struct st_error *error = NULL;
        int r = do_jobs(&worker, &error);
        if (r < 0)
                fail(encoder, r, error);
        native_coder_free(worker.coder);
        free(worker.pages.bytes);
        free(worker.dense.bytes);
        free(worker.data.bytes);
        free(worker.stored);
        return NULL;
}

static size_t count_threads(const struct image_write *options) {
        cpu_set_t set;
        size_t n = options->threads;
        if (n == 0)
                n = sched_getaffinity(0, sizeof(set), &set) == 0 ? (size_t)CPU_COUNT(&set) : 1;
        return n < NATIVE_THREADS_MAX ? n : NATIVE_THREADS_MAX;
}

int native_encoder_new(struct writing *writing, struct native_encoder **ret, struct st_error **err) {
        struct native_encoder *encoder = NEW(struct native_encoder);
        encoder->writing = writing;
        encoder->fd = -EBADF;
        encoder->offset = encoder->sent = NATIVE_HEADER;
        encoder->table = page_table_new();
        pthread_mutex_init(&encoder->lock, NULL);
        pthread_cond_init(&encoder->changed, NULL);
        int r = native_parent_open(encoder, err);
        if (r < 0)
                native_encoder_free(encoder);
        else
                *ret = encoder;
        return r;
}

static void join(struct native_encoder *encoder) {
        while (encoder->n_threads > 0)
                pthread_join(encoder->threads[--encoder->n_threads], NULL);
}

static void job_free(struct native_job *job) {
        if (job->kind == NATIVE_PAGES)
                free(job->result.runs);
        else
                free(job->result.extents);
        free(job);
}

struct native_encoder *native_encoder_free(struct native_encoder *encoder) {
        if (!encoder)
                return NULL;
        if (encoder->n_threads > 0)
                fail(encoder, -ECANCELED, NULL);
        join(encoder);
        for (size_t i = 0; i < encoder->n_jobs; i++)
                job_free(encoder->jobs[i]);
        free(encoder->jobs);
        free(encoder->frames);
        st_error_free(encoder->error);
        page_table_free(encoder->table);
        native_free(encoder->parent);
        pthread_cond_destroy(&encoder->changed);
        pthread_mutex_destroy(&encoder->lock);
        free(encoder);
        return NULL;
}

int native_encoder_start(struct native_encoder *encoder, int fd, struct st_error **err) {
        uint8_t header[NATIVE_HEADER];
        size_t wanted = count_threads(encoder->writing->options);
        encoder->fd = fd;
        native_header_make(&encoder->header, header);
        int r = native_encoder_write(encoder, header, sizeof(header), 0, err);
        if (r < 0)
                return r;
        while (encoder->n_threads < wanted && r == 0) {
                r = threads_start(&encoder->threads[encoder->n_threads], work, encoder);
                encoder->n_threads += r == 0;
        }
        return encoder->n_threads > 0 ? 0 : st_error_errno(err, r, "cannot start a thread");
}

void native_encoder_add(struct native_encoder *encoder, struct native_job *job) {
        pthread_mutex_lock(&encoder->lock);
        GROW(encoder->jobs, encoder->n_jobs, encoder->room_jobs);
        encoder->jobs[encoder->n_jobs++] = job;
        encoder->outstanding += job->chunk != NULL;
        pthread_cond_signal(&encoder->changed);
        pthread_mutex_unlock(&encoder->lock);
}

/** Under the lock. @return 0 or the error of the threads, which is given away */
static int take_error(struct native_encoder *encoder, struct st_error **err) {
        if (encoder->error)
                return st_error_move(err, TAKE_PTR(encoder->error));
        return encoder->result < 0 ? st_error_set(err, encoder->result, "the checkpoint could not be encoded") : 0;
}

int native_encoder_returned(struct native_encoder *encoder, bool wait, struct st_error **err) {
        pthread_mutex_lock(&encoder->lock);
        while (wait && encoder->returned == 0 && encoder->outstanding > 0 && encoder->result == 0)
                pthread_cond_wait(&encoder->changed, &encoder->lock);
        int r = encoder->result < 0 ? take_error(encoder, err) : encoder->returned > 0;
        encoder->returned = 0;
        pthread_mutex_unlock(&encoder->lock);
        return r;
}

int native_encoder_finish(struct native_encoder *encoder, struct st_error **err) {
        pthread_mutex_lock(&encoder->lock);
        encoder->closed = true;
        pthread_cond_broadcast(&encoder->changed);
        pthread_mutex_unlock(&encoder->lock);
        join(encoder);
        return take_error(encoder, err);
}
