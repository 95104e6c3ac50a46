/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Native images made piece by piece, so that tests of the reader know, and choose, what is where in them. */

#include "test_image_common.h"

#include <fcntl.h>

#include "image/native.h"

struct native_build {
        struct native_header header;
        struct native_index index;
        size_t room_frames, room_files, room_ancestors;
        uint8_t *bytes; /* of the file */
        size_t size;
        uint8_t *digests;
        size_t n_digests;
        struct native_coder *coder;
};

static inline void build_append(struct native_build *build, const void *data, size_t n) {
        build->bytes = xrealloc(build->bytes, build->size + n, 1);
        memcpy(build->bytes + build->size, data, n);
        build->size += n;
}

/** @param id each of its bytes */
static inline void build_begin(struct native_build *build, uint8_t id) {
        uint8_t bytes[NATIVE_HEADER];
        *build = (struct native_build){ .header.seed = 42 };
        memset(build->header.id, id, NATIVE_ID);
        native_header_make(&build->header, bytes);
        build_append(build, bytes, sizeof(bytes));
        build->coder = native_coder_new();
}

/** @return its number */
static inline uint32_t build_frame(struct native_build *build, enum native_kind kind, enum native_codec codec,
                                   const uint8_t *data, size_t size) {
        _cleanup_free_ uint8_t *stored = xmalloc(NATIVE_STORED_MAX);
        struct native_frame frame = { .decoded = (uint32_t)size, .kind = (uint8_t)kind, .offset = build->size };
        ssize_t n = native_encode(build->coder, codec, data, size, stored, &frame.codec);
        assert_true(n > 0);
        frame.stored = (uint32_t)n;
        frame.digest = hash_of(stored, (size_t)n);
        build_append(build, stored, (size_t)n);
        for (size_t at = 0; kind == NATIVE_PAGES && at < size; at += NATIVE_PAGE) {
                build->digests = xrealloc(build->digests, build->n_digests + 1, 16);
                native_put_digest(build->digests + build->n_digests++ * 16,
                                  native_page_digest(data + at, build->header.seed));
        }
        GROW(build->index.frames, build->index.n_frames, build->room_frames);
        build->index.frames[build->index.n_frames++] = frame;
        return build->index.n_frames - 1;
}

/** Adds a file without extents; these are the caller's to set. */
static inline struct native_file *build_file(struct native_build *build, const char *name, enum native_kind kind,
                                             uint64_t size, uint32_t n) {
        GROW(build->index.files, build->index.n_files, build->room_files);
        struct native_file *file = &build->index.files[build->index.n_files++];
        *file = (struct native_file){ .name = xstrdup(name), .kind = kind, .size = size, .n = n };
        if (kind == NATIVE_DATA)
                file->extents = xcalloc(n, sizeof(*file->extents));
        else
                file->runs = xcalloc(n, sizeof(*file->runs));
        return file;
}

static inline void build_pages(struct native_build *build, const char *name, const struct native_run *runs,
                               uint32_t n) {
        uint64_t pages = 0;
        for (uint32_t i = 0; i < n; i++)
                pages += runs[i].count;
        struct native_file *file = build_file(build, name, NATIVE_PAGES, pages * NATIVE_PAGE, n);
        memcpy(file->runs, runs, n * sizeof(*runs));
}

static inline void build_data(struct native_build *build, const char *name, const struct native_extent *extents,
                              uint32_t n) {
        uint64_t size = 0;
        for (uint32_t i = 0; i < n; i++)
                size += extents[i].length;
        struct native_file *file = build_file(build, name, NATIVE_DATA, size, n);
        for (uint32_t i = 0; i < n; i++)
                file->extents[i] = extents[i];
}

/** All frames of a finished image may be referred to. */
static inline void build_ancestor(struct native_build *build, const struct native_build *ancestor, const char *name,
                                  const char *path) {
        GROW(build->index.ancestors, build->index.n_ancestors, build->room_ancestors);
        struct native_ancestor *entry = &build->index.ancestors[build->index.n_ancestors++];
        *entry = (struct native_ancestor){
                .n_frames = ancestor->index.n_frames,
                .frames = native_frames_digest(ancestor->index.frames, ancestor->index.n_frames),
                .name = xstrdup(name),
                .path = xstrdup(path),
        };
        memcpy(entry->id, ancestor->header.id, NATIVE_ID);
}

/** Page digests, index and footer. */
static inline void build_finish(struct native_build *build) {
        struct native_footer footer = { .digests_at = build->size };
        uint8_t bytes[NATIVE_FOOTER];
        size_t size;
        build_append(build, build->digests ? build->digests : bytes, build->n_digests * 16);
        uint8_t *index = native_index_make(&build->index, &size);
        assert_non_null(index);
        footer.index_at = build->size;
        footer.index_stored = footer.index_decoded = size;
        footer.digests = hash_of(build->bytes + footer.digests_at, build->n_digests * 16);
        footer.index = hash_of(index, size);
        build_append(build, index, size);
        free(index);
        footer.size = build->size + NATIVE_FOOTER;
        memcpy(footer.id, build->header.id, NATIVE_ID);
        native_footer_make(&footer, bytes);
        build_append(build, bytes, sizeof(bytes));
}

static inline void build_clear(struct native_build *build) {
        native_index_clear(&build->index);
        native_coder_free(build->coder);
        free(build->bytes);
        free(build->digests);
}

static inline void build_write(const struct native_build *build, const char *path) {
        assert_int_equal(io_replace_file(path, build->bytes, build->size, 0600, false), 0);
}

/** A page that is told by its number. */
static inline void fill_page(uint8_t *page, uint64_t number) {
        uint8_t *bytes = make_bytes(NATIVE_PAGE, number + 1);
        memcpy(page, bytes, NATIVE_PAGE);
        free(bytes);
}
