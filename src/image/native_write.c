/* SPDX-License-Identifier: Apache-2.0 */

/* Writing a native image: what is in the store is cut into jobs for the encoder, then the image is finished. */

#include <errno.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/native_encoder.h"
#include "image/streamer.h"

/** Bytes of a job: small enough that all threads end together, large enough that nobody waits for the next. */
#define JOB ((uint64_t)2 << 20)

static struct native_job *new_job(struct store_file *file, size_t extent, size_t at, uint64_t position) {
        struct native_job *job = NEW(struct native_job);
        job->file = file;
        job->kind = job->result.kind = native_kind_of(file);
        job->extent = extent;
        job->at = at;
        job->position = position;
        return job;
}

static bool may_end(const struct native_job *job) {
        return job->kind == NATIVE_DATA || job->length % NATIVE_PAGE == 0;
}

static struct native_job *end_job(struct native_encoder *encoder, struct native_job *job) {
        if (job)
                native_encoder_add(encoder, job);
        return NULL;
}

/** Jobs for all of a file that was not given away. A chunk of memory is in one job, which can release it. */
static void add_file(struct native_encoder *encoder, struct store_file *file) {
        struct native_job *job = NULL;
        uint64_t position = 0;
        for (size_t i = 0; i < file->n_extents; position += file->extents[i++].length) {
                const struct store_extent *extent = &file->extents[i];
                if (extent->given) {
                        job = end_job(encoder, job);
                        continue;
                }
                for (uint64_t at = 0; at < extent->length;) {
                        if (!job)
                                job = new_job(file, i, (size_t)at, position + at);
                        uint64_t left = extent->length - at, n = JOB - job->length % NATIVE_PAGE;
                        n = extent->data || n > left ? left : n;
                        job->length += n;
                        at += n;
                        if (job->length >= JOB / 2 && may_end(job))
                                job = end_job(encoder, job);
                }
        }
        end_job(encoder, job);
}

/* Of pages only chunks of whole ones: what begins or ends in the middle of one stays. */
void native_give(struct native_encoder *encoder, struct store *store) {
        for (size_t i = 0; i < store->n_files; i++) {
                struct store_file *file = store->files[i];
                uint64_t position = file->looked_position;
                bool pages = streamer_is_pages(file->name);
                for (; file->looked < file->n_extents; position += file->extents[file->looked++].length) {
                        struct store_extent *extent = &file->extents[file->looked];
                        bool last = file->looked + 1 == file->n_extents;
                        if (last && (!extent->data || extent->length < extent->room))
                                break; /* it may grow */
                        if (!extent->data || (pages && (position | extent->length) % NATIVE_PAGE != 0))
                                continue;
                        struct native_job *job = new_job(file, file->looked, 0, position);
                        job->kind = job->result.kind = pages ? NATIVE_PAGES : NATIVE_DATA;
                        job->length = extent->length;
                        job->chunk = TAKE_PTR(extent->data);
                        job->room = extent->room;
                        extent->given = true;
                        native_encoder_add(encoder, job);
                }
                file->looked_position = position;
        }
}

int native_write(struct writing *writing, int fd, struct st_error **err) {
        int r = 0;
        if (!writing->encoder)
                r = native_encoder_new(writing, &writing->encoder, err);
        if (r == 0 && writing->encoder->fd < 0)
                r = native_encoder_start(writing->encoder, fd, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < writing->n_files; i++)
                add_file(writing->encoder, writing->files[i]);
        r = native_encoder_finish(writing->encoder, err);
        return r == 0 ? native_finish(writing->encoder, err) : r;
}
