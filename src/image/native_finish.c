/* SPDX-License-Identifier: Apache-2.0 */

/* The end of a native image: frames get their final numbers, files their extents; then page digests, index, footer. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/native_encoder.h"
#include "image/native_parent.h"
#include "image/native_weave.h"
#include "image/streamer.h"

#define DIGEST 16
/** Page digests are written in pieces of so many bytes. */
#define PIECE ((size_t)1 << 20)
#define INDEX_LEVEL 1

enum native_kind native_kind_of(const struct store_file *file) {
        return streamer_is_pages(file->name) && file->size % NATIVE_PAGE == 0 ? NATIVE_PAGES : NATIVE_DATA;
}

static int compare_offsets(const void *a, const void *b, void *userdata) {
        const struct native_frame *frames = userdata;
        uint64_t first = frames[*(const uint32_t *)a].offset, second = frames[*(const uint32_t *)b].offset;
        return first < second ? -1 : first > second;
}

/** The provisional numbers of the frames that were written, as they follow each other in the file. */
static uint32_t *sort_frames(const struct native_encoder *encoder, uint32_t *ret_n) {
        uint32_t *order = xcalloc(encoder->n_frames, sizeof(*order)), n = 0;
        for (uint32_t i = 0; i < encoder->n_frames; i++)
                if (encoder->frames[i].stored > 0)
                        order[n++] = i;
        qsort_r(order, n, sizeof(*order), compare_offsets, encoder->frames);
        *ret_n = n;
        return order;
}

/* By file, and there by position. */
static int compare_jobs(const void *a, const void *b) {
        const struct native_job *first = *(struct native_job *const *)a, *second = *(struct native_job *const *)b;
        if (first->file != second->file)
                return (uintptr_t)first->file < (uintptr_t)second->file ? -1 : 1;
        return first->position < second->position ? -1 : first->position > second->position;
}

static void append_runs(struct native_file *file, uint32_t *room, const struct native_file *part,
                        const uint32_t *numbers) {
        for (uint32_t i = 0; i < part->n; i++) {
                struct native_run run = part->runs[i];
                struct native_run *last = file->n > 0 ? &file->runs[file->n - 1] : NULL;
                if (run.source == 0)
                        run.frame = numbers[run.frame];
                if (last && native_run_continues(last, run.source, run.frame, run.page) &&
                    run.count <= UINT32_MAX - last->count) {
                        last->count += run.count;
                        continue;
                }
                GROW(file->runs, file->n, *room);
                file->runs[file->n++] = run;
        }
}

static void append_extents(struct native_file *file, uint32_t *room, const struct native_file *part,
                           const uint32_t *numbers) {
        for (uint32_t i = 0; i < part->n; i++) {
                struct native_extent extent = part->extents[i];
                extent.frame = numbers[extent.frame];
                GROW(file->extents, file->n, *room);
                file->extents[file->n++] = extent;
        }
}

static size_t first_job(const struct native_encoder *encoder, const struct store_file *file) {
        size_t low = 0, high = encoder->n_jobs;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if ((uintptr_t)encoder->jobs[middle]->file < (uintptr_t)file)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

/** Puts together what the jobs made of a file. Jobs are sorted. */
static int join_file(const struct native_encoder *encoder, const struct store_file *source, const uint32_t *numbers,
                     struct native_file *file, struct st_error **err) {
        uint64_t done = 0;
        uint32_t room = 0;
        file->name = xstrdup(source->name);
        file->kind = native_kind_of(source);
        file->size = source->size;
        for (size_t i = first_job(encoder, source); i < encoder->n_jobs && encoder->jobs[i]->file == source; i++) {
                const struct native_job *job = encoder->jobs[i];
                if (job->position != done || job->kind != file->kind)
                        break;
                if (file->kind == NATIVE_PAGES)
                        append_runs(file, &room, &job->result, numbers);
                else
                        append_extents(file, &room, &job->result, numbers);
                done += job->length;
        }
        if (done != file->size)
                return st_error_set(err, EBADMSG, "%s is not made of whole pages", file->name);
        return source->n_references == 0 ? 0 : native_weave(source, file, err);
}

static int make_index(const struct native_encoder *encoder, const uint32_t *order, uint32_t n,
                      struct native_index *index, struct st_error **err) {
        const struct writing *writing = encoder->writing;
        _cleanup_free_ uint32_t *numbers = xcalloc(encoder->n_frames, sizeof(*numbers));
        int r = 0;
        index->frames = xcalloc(n, sizeof(*index->frames));
        index->n_frames = n;
        for (uint32_t i = 0; i < n; i++) {
                index->frames[i] = encoder->frames[order[i]];
                numbers[order[i]] = i;
        }
        qsort(encoder->jobs, encoder->n_jobs, sizeof(struct native_job *), compare_jobs);
        index->files = xcalloc(writing->n_files, sizeof(*index->files));
        while (index->n_files < writing->n_files && r == 0) {
                uint32_t i = index->n_files++;
                r = join_file(encoder, writing->files[i], numbers, &index->files[i], err);
        }
        if (r == 0)
                native_parent_refer(encoder, index);
        return r;
}

/** Of all frames of pages, in the order of the file. */
static int write_digests(struct native_encoder *encoder, const uint32_t *order, uint32_t n,
                         struct native_footer *footer, struct st_error **err) {
        _cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
        _cleanup_free_ uint8_t *piece = xmalloc(PIECE);
        uint64_t at = footer->digests_at;
        size_t fill = 0;
        int r = 0;
        for (uint32_t i = 0; i <= n && r == 0; i++) {
                const struct native_frame *frame = i < n ? &encoder->frames[order[i]] : NULL;
                size_t size = frame && frame->kind == NATIVE_PAGES ? frame->decoded / NATIVE_PAGE * DIGEST : 0;
                if (fill > 0 && (!frame || fill + size > PIECE)) {
                        hasher_update(hasher, piece, fill);
                        r = native_encoder_write(encoder, piece, fill, at, err);
                        at += fill;
                        fill = 0;
                }
                if (size > 0)
                        memcpy(piece + fill, page_table_digests(encoder->table, order[i]), size);
                fill += size;
        }
        footer->digests = hasher_finish(hasher);
        footer->index_at = at;
        return r;
}

static int write_index(struct native_encoder *encoder, const struct native_index *index, struct native_footer *footer,
                       struct st_error **err) {
        size_t size;
        _cleanup_free_ uint8_t *bytes = native_index_make(index, &size);
        _cleanup_free_ uint8_t *packed = bytes ? malloc(size) : NULL;
        if (!packed)
                return st_error_errno(err, ENOMEM, "cannot make the index");
        /* One byte less: what does not get smaller is an error, and stored as it is. */
        size_t n = ZSTD_compress(packed, size - 1, bytes, size, INDEX_LEVEL);
        bool smaller = !ZSTD_isError(n);
        footer->index_codec = smaller ? NATIVE_ZSTD : NATIVE_RAW;
        footer->index_decoded = size;
        footer->index_stored = smaller ? n : size;
        footer->index = hash_of(smaller ? packed : bytes, footer->index_stored);
        return native_encoder_write(encoder, smaller ? packed : bytes, footer->index_stored, footer->index_at, err);
}

static int write_footer(struct native_encoder *encoder, struct native_footer *footer, struct st_error **err) {
        uint8_t bytes[NATIVE_FOOTER];
        memcpy(footer->id, encoder->header.id, NATIVE_ID);
        footer->size = footer->index_at + footer->index_stored + NATIVE_FOOTER;
        native_footer_make(footer, bytes);
        int r = native_encoder_write(encoder, bytes, sizeof(bytes), footer->size - NATIVE_FOOTER, err);
        if (r == 0 && fsync(encoder->fd) < 0)
                r = writing_failed(encoder->writing, errno, err);
        return r;
}

int native_finish(struct native_encoder *encoder, struct st_error **err) {
        struct native_footer footer = { .digests_at = atomic_load(&encoder->offset) };
        struct native_index index = { 0 };
        uint32_t n;
        _cleanup_free_ uint32_t *order = sort_frames(encoder, &n);
        int r = make_index(encoder, order, n, &index, err);
        if (r == 0)
                r = write_digests(encoder, order, n, &footer, err);
        if (r == 0)
                r = write_index(encoder, &index, &footer, err);
        if (r == 0)
                r = write_footer(encoder, &footer, err);
        native_index_clear(&index);
        return r;
}
