/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The plan of a lazy restore, made of what CRIU's pagemap-1.img and mm-1.img say. Two bytes are the length of the
 * first, it follows, then the other one. The image around them is right, and has a few pages.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "image/image.h"
#include "image/native.h"
#include "lazy/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OWN_PAGES 8
#define ZERO_PAGES 100
#define DATA_MAX ((size_t)1 << 20)

/** A native image with a frame of data and one of pages. @return its size */
static size_t make_image(const uint8_t *data, uint32_t first, uint32_t second, uint8_t *out) {
        static uint8_t pages[OWN_PAGES * NATIVE_PAGE], digests[OWN_PAGES * sizeof(struct hash)];
        const struct native_header header = { .id = { 1 } };
        uint32_t length = first + second;
        struct native_extent extents[] = { { first, 0, 0 }, { second, 0, first } };
        struct native_run runs[] = { { 3, 1, 0, 0 }, { ZERO_PAGES, 0, 0, NATIVE_ZERO }, { 5, 1, 3, 0 } };
        struct native_frame frames[] = {
                { .stored = length, .decoded = length, .kind = NATIVE_DATA, .digest = hash_of(data, length) },
                { .stored = sizeof(pages),
                  .decoded = sizeof(pages),
                  .kind = NATIVE_PAGES,
                  .digest = hash_of(pages, sizeof(pages)) },
        };
        struct native_file files[] = {
                { .name = (char *)"pagemap-1.img",
                  .kind = NATIVE_DATA,
                  .size = first,
                  .extents = &extents[0],
                  .n = first > 0 },
                { .name = (char *)"mm-1.img",
                  .kind = NATIVE_DATA,
                  .size = second,
                  .extents = &extents[1],
                  .n = second > 0 },
                { .name = (char *)"pages-1.img",
                  .kind = NATIVE_PAGES,
                  .size = (OWN_PAGES + ZERO_PAGES) * NATIVE_PAGE,
                  .runs = runs,
                  .n = 3 },
        };
        struct native_index index = { .frames = frames, .n_frames = 2, .files = files, .n_files = 3 };
        struct native_footer footer = { .id = { 1 }, .digests = hash_of(digests, sizeof(digests)) };
        size_t index_size, at = NATIVE_HEADER;
        uint8_t *bytes = native_index_make(&index, &index_size);
        if (!bytes)
                abort();
        native_header_make(&header, out);
        memcpy(out + at, data, length);
        memcpy(out + at + length, pages, sizeof(pages));
        footer.digests_at = at += length + sizeof(pages);
        memcpy(out + at, digests, sizeof(digests));
        footer.index_at = at += sizeof(digests);
        memcpy(out + at, bytes, index_size);
        footer.index_stored = footer.index_decoded = index_size;
        footer.index = hash_of(bytes, index_size);
        footer.size = at + index_size + NATIVE_FOOTER;
        native_footer_make(&footer, out + at + index_size);
        free(bytes);
        return (size_t)footer.size;
}

/** What whoever copies the pages relies on. */
static void check(const struct lazy_plan *plan) {
        for (size_t i = 0; i < plan->n_tasks; i++) {
                uint64_t end = 0;
                for (size_t k = 0; k < plan->tasks[i].n; k++) {
                        const struct lazy_piece *piece = &plan->tasks[i].pieces[k];
                        if (piece->count == 0 || piece->at < end || piece->at % LAZY_PAGE)
                                abort();
                        end = piece->at + piece->count * LAZY_PAGE;
                        if (end <= piece->at || lazy_plan_piece(&plan->tasks[i], piece->at) != piece)
                                abort();
                        if (piece->frame != LAZY_ZERO &&
                            (piece->frame >= plan->n_frames || piece->page + (uint64_t)piece->count > OWN_PAGES))
                                abort();
                }
        }
        for (size_t i = 0; i < plan->n_rests; i++)
                for (size_t k = 0; k < plan->rests[i].n; k++) {
                        const struct image_page_range *range = &plan->rests[i].ranges[k];
                        if (range->first + range->count > OWN_PAGES + ZERO_PAGES || range->count == 0)
                                abort();
                }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static uint8_t bytes[DATA_MAX + (1 << 18)];
        if (size < 3 || size > DATA_MAX)
                return 0;
        uint32_t first = (uint32_t)data[0] << 8 | data[1], all = (uint32_t)size - 2;
        first = first < all ? first : all;
        int fd = io_memfd("fuzz", bytes, make_image(data + 2, first, all - first, bytes));
        struct image *image = NULL;
        struct lazy_plan *plan = NULL;
        struct st_error *error = NULL;
        char path[64];
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (fd < 0 || image_open(path, &image, NULL) < 0)
                abort();
        int r = lazy_plan_make(image, &plan, &error);
        if ((r < 0) != (error != NULL) || (r < 0) != (plan == NULL))
                abort();
        if (r == 0) {
                check(plan);
                if (lazy_plan_apply(plan, image, NULL) < 0)
                        abort();
        }
        lazy_plan_free(plan);
        image_free(image);
        st_error_free(error);
        close(fd);
        return 0;
}
