/* SPDX-License-Identifier: Apache-2.0 */

/* What only native images have: all of their frames checked at once, and files of pages served in parts. */

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "image/formats.h"
#include "image/threads.h"

/** A frame that is to be checked. */
struct wanted {
        uint32_t source, frame;
};

struct verifying {
        const struct native *native;
        int cancel_fd;
        struct wanted *wanted;
        size_t n;
        uint8_t **digests;      /* for each source those of its pages */
        uint64_t **first_pages; /* for each source, for each frame: how many pages are before it */
        atomic_size_t next;     /* of wanted */
        atomic_bool failed;
};

/** Compares the pages of a decoded frame with their digests. */
static int check_pages(const struct verifying *verifying, const struct wanted *wanted, const uint8_t *bytes,
                       struct st_error **err) {
        const struct native_source *source = &verifying->native->sources[wanted->source];
        const uint8_t *digest = verifying->digests[wanted->source] +
                                verifying->first_pages[wanted->source][wanted->frame] * sizeof(struct hash);
        size_t n = source->frames[wanted->frame].decoded / NATIVE_PAGE;
        for (size_t i = 0; i < n; i++, digest += sizeof(struct hash), bytes += NATIVE_PAGE)
                if (!hash_equal(native_page_digest(bytes, source->header.seed), native_get_digest(digest)))
                        return st_error_set(err, EBADMSG,
                                            "%s is damaged: page %zu of its frame %" PRIu32 " has a wrong digest",
                                            source->path, i, wanted->frame);
        return 0;
}

static int check_frame(const struct verifying *verifying, const struct wanted *wanted, struct native_coder *coder,
                       uint8_t *stored, uint8_t *out, struct st_error **err) {
        int r = native_read_frame(verifying->native, wanted->source, wanted->frame, coder, stored, out, err);
        const struct native_frame *frame = &verifying->native->sources[wanted->source].frames[wanted->frame];
        return r == 0 && frame->kind == NATIVE_PAGES ? check_pages(verifying, wanted, out, err) : r;
}

/** One of the threads: takes frames until none is left. */
static int verify_job(size_t index, void *userdata, struct st_error **err) {
        struct verifying *verifying = userdata;
        _cleanup_(native_coder_freep) struct native_coder *coder = native_coder_new();
        _cleanup_free_ uint8_t *stored = malloc(NATIVE_STORED_MAX), *out = malloc(NATIVE_FRAME_MAX);
        int r = 0;
        (void)index;
        if (!stored || !out)
                r = st_error_errno(err, ENOMEM, "cannot verify %s", verifying->native->sources[0].path);
        while (r == 0 && !atomic_load(&verifying->failed)) {
                size_t next = atomic_fetch_add(&verifying->next, 1);
                if (next >= verifying->n)
                        return 0;
                if (threads_signalled(verifying->cancel_fd))
                        r = st_error_set(err, ECANCELED, "cancelled");
                else
                        r = check_frame(verifying, &verifying->wanted[next], coder, stored, out, err);
        }
        if (r < 0)
                atomic_store(&verifying->failed, true);
        return r;
}

/** All frames of the image itself, and those of its ancestors that it refers to; in the order of their files. */
static void list_frames(struct verifying *verifying) {
        const struct native *native = verifying->native;
        uint8_t **needed = xcalloc(native->n_sources, sizeof(*needed));
        size_t room = 0;
        for (uint32_t s = 0; s < native->n_sources; s++) {
                needed[s] = xcalloc(native->sources[s].n_frames + (size_t)1, 1);
                if (s == 0)
                        memset(needed[s], 1, native->sources[s].n_frames);
        }
        for (uint32_t i = 0; i < native->index.n_files; i++) {
                const struct native_file *file = &native->index.files[i];
                for (uint32_t k = 0; file->kind == NATIVE_PAGES && k < file->n; k++)
                        if (file->runs[k].source != NATIVE_ZERO)
                                needed[file->runs[k].source][file->runs[k].frame] = 1;
        }
        for (uint32_t s = 0; s < native->n_sources; s++) {
                for (uint32_t f = 0; f < native->sources[s].n_frames; f++) {
                        if (!needed[s][f])
                                continue;
                        GROW(verifying->wanted, verifying->n, room);
                        verifying->wanted[verifying->n++] = (struct wanted){ s, f };
                }
                free(needed[s]);
        }
        free(needed);
}

static int read_all_digests(struct verifying *verifying, struct st_error **err) {
        const struct native *native = verifying->native;
        for (uint32_t s = 0; s < native->n_sources; s++) {
                const struct native_source *source = &native->sources[s];
                uint64_t pages = 0;
                size_t n;
                int r = native_read_digests(native, s, &verifying->digests[s], &n, err);
                if (r < 0)
                        return r;
                verifying->first_pages[s] = xcalloc(source->n_frames + (size_t)1, sizeof(uint64_t));
                for (uint32_t f = 0; f < source->n_frames; f++) {
                        verifying->first_pages[s][f] = pages;
                        pages += source->frames[f].kind == NATIVE_PAGES ? source->frames[f].decoded / NATIVE_PAGE : 0;
                }
        }
        return 0;
}

int image_verify_native(struct image *image, int cancel_fd, struct st_error **err) {
        const struct native *native = image->native;
        struct verifying verifying = { .native = native, .cancel_fd = cancel_fd };
        verifying.digests = xcalloc(native->n_sources, sizeof(*verifying.digests));
        verifying.first_pages = xcalloc(native->n_sources, sizeof(*verifying.first_pages));
        int r = read_all_digests(&verifying, err);
        if (r == 0) {
                long cores = sysconf(_SC_NPROCESSORS_ONLN);
                list_frames(&verifying);
                r = threads_run_all(cores > 0 ? (size_t)cores : 1, verify_job, &verifying, err);
        }
        for (uint32_t s = 0; s < native->n_sources; s++) {
                free(verifying.digests[s]);
                free(verifying.first_pages[s]);
        }
        free(verifying.digests);
        free(verifying.first_pages);
        free(verifying.wanted);
        return r;
}

const struct native_file *image_native_file(const struct image *image, const struct manifest_entry *entry) {
        size_t index = (size_t)(entry - image->manifest.entries);
        return image->selections && image->selections[index].selected ? &image->selections[index].file
                                                                      : &image->native->index.files[index];
}

const struct manifest_entry *image_served_entry(const struct image *image, const struct manifest_entry *entry) {
        size_t index = (size_t)(entry - image->manifest.entries);
        return image->selections && image->selections[index].selected ? &image->selections[index].entry : entry;
}

void image_clear_selections(struct image *image) {
        for (size_t i = 0; image->selections && i < image->manifest.n; i++)
                free(image->selections[i].file.runs);
        free(image->selections);
        image->selections = NULL;
}

/** The runs of a file from one page on, and how many pages they have passed. */
struct slicing {
        const struct native_file *file;
        uint32_t run;
        uint64_t passed; /* pages before the run */
};

/** Appends a range of pages to the runs of `to`. The ranges ascend, so the runs are gone through once. */
static void slice(struct slicing *slicing, const struct image_page_range *range, struct native_file *to, size_t *room) {
        uint64_t at = range->first, end = range->first + range->count;
        while (at < end) {
                const struct native_run *run = &slicing->file->runs[slicing->run];
                if (slicing->passed + run->count <= at) {
                        slicing->passed += run->count;
                        slicing->run++;
                        continue;
                }
                uint64_t skip = at - slicing->passed, n = run->count - skip;
                if (n > end - at)
                        n = end - at;
                struct native_run part = *run;
                part.count = (uint32_t)n;
                part.page = run->source == NATIVE_ZERO ? 0 : (uint16_t)(run->page + skip);
                GROW(to->runs, to->n, *room);
                to->runs[to->n++] = part;
                at += n;
        }
        to->size += range->count * NATIVE_PAGE;
}

static bool ranges_are_valid(const struct image_page_range *ranges, size_t n, uint64_t pages) {
        uint64_t end = 0;
        for (size_t i = 0; i < n; i++) {
                if (ranges[i].count == 0 || ranges[i].first < end || ranges[i].first > pages ||
                    ranges[i].count > pages - ranges[i].first)
                        return false;
                end = ranges[i].first + ranges[i].count;
        }
        return true;
}

int image_select_pages(struct image *image, const char *name, const struct image_page_range *ranges, size_t n,
                       struct st_error **err) {
        if (!image->native)
                return st_error_set(err, EOPNOTSUPP, "%s is not a native image", image->path);
        const struct manifest_entry *entry = manifest_find(&image->manifest, name);
        size_t index = entry ? (size_t)(entry - image->manifest.entries) : 0, room = 0;
        const struct native_file *file = &image->native->index.files[index];
        if (!entry || file->kind != NATIVE_PAGES)
                return st_error_set(err, ENOENT, "the checkpoint %s has no pages in %s", image->path, name);
        if (!ranges_are_valid(ranges, n, file->size / NATIVE_PAGE))
                return st_error_set(err, EINVAL, "%s of %s has not these pages", name, image->path);
        struct slicing slicing = { .file = file };
        struct native_file part = { .name = file->name, .kind = NATIVE_PAGES };
        for (size_t i = 0; i < n; i++)
                slice(&slicing, &ranges[i], &part, &room);
        if (!image->selections)
                image->selections = xcalloc(image->manifest.n, sizeof(*image->selections));
        free(image->selections[index].file.runs);
        image->selections[index] = (struct image_selection){
                .entry = { .name = entry->name, .size = part.size },
                .file = part,
                .selected = true,
        };
        return 0;
}
