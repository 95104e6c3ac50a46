/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tests of the data path share. */

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <stasis/error.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "image/image.h"

#define MIB ((uint64_t)1 << 20)

/** Fails with the error's text when r is negative. */
#define assert_ok(r, error)                                              \
        do {                                                             \
                if ((r) < 0)                                             \
                        fail_msg("%s: %s", #r, st_error_message(error)); \
        } while (0)

static inline char *make_directory(void) {
        char *path = xstrdup("/tmp/stasis-image-XXXXXX");
        assert_non_null(mkdtemp(path));
        return path;
}

static inline void remove_directory(char *path) {
        io_remove_tree(path);
        free(path);
}

/** Bytes that depend on the seed alone. */
static inline uint64_t next_random(uint64_t *state) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static inline uint8_t *make_bytes(size_t n, uint64_t seed) {
        uint8_t *bytes = xmalloc(n + 8);
        uint64_t state = seed * 2654435761u + 88172645463325252u;
        for (size_t i = 0; i < n; i += 8) {
                uint64_t value = next_random(&state);
                if (i >> 12 & 1) /* pages that compress among such that do not */
                        value &= 0x0101010101010101u;
                memcpy(bytes + i, &value, 8);
        }
        return bytes;
}

struct sample {
        const char *name;
        size_t size;
};

/** Files as CRIU makes them: tiny ones, an empty one, one that is large but no pages, pages. */
static const struct sample samples[] = {
        { "pages-1.img", 3 * 1024 * 1024 + 8192 },
        { "inventory.img", 86 },
        { "core-42.img", 2315 },
        { "empty.img", 0 },
        { "ghost-file-1.img", 300001 },
        { "stasis.json", 17 },
        { "pages-2.img", 12288 },
        { "pages-3.img", 1024 * 1024 },
};

static inline void add_sample(struct store *store, size_t i) {
        uint8_t *bytes = make_bytes(samples[i].size, i + 1);
        struct st_error *error = NULL;
        struct store_file *file = store_add(store, samples[i].name, &error);
        assert_non_null(file);
        assert_ok(store_append(store, file, bytes, samples[i].size, &error), error);
        free(bytes);
}

static inline struct store *make_store(const char *directory, uint64_t budget) {
        struct store *store = store_new(budget, directory);
        for (size_t i = 0; i < ELEMENTSOF(samples); i++)
                add_sample(store, i);
        return store;
}

/** Reads a file of a store wholly; malloc'ed. */
static inline uint8_t *read_store_file(const struct store *store, const struct store_file *file) {
        struct store_reader reader = { .store = store, .file = file };
        uint8_t *bytes = xmalloc((size_t)file->size);
        size_t have = 0;
        const uint8_t *piece;
        ssize_t n;
        while ((n = store_read(&reader, &piece)) > 0) {
                assert_true(n <= 1 << 20);
                assert_true(have + (size_t)n <= file->size);
                memcpy(bytes + have, piece, (size_t)n);
                have += (size_t)n;
        }
        assert_int_equal(n, 0);
        assert_int_equal(have, file->size);
        store_reader_clear(&reader);
        return bytes;
}

static inline void assert_bytes(const uint8_t *got, size_t n, uint64_t seed) {
        uint8_t *expected = make_bytes(n, seed);
        if (n > 0 && memcmp(got, expected, n) != 0)
                fail_msg("%zu bytes differ from what was written (seed %d)", n, (int)seed);
        free(expected);
}

/** A way to write a checkpoint. */
struct kind {
        enum image_format format;
        unsigned streams;
};

static const struct kind kind_none = { IMAGE_NONE, 0 }, kind_zstd = { IMAGE_ZSTD, 0 }, kind_streams = { IMAGE_LZ4, 3 };

/** `none` comes first. */
static const struct kind kinds[] = {
        { IMAGE_NONE, 0 }, { IMAGE_TAR, 0 },  { IMAGE_GZIP, 0 },   { IMAGE_LZ4, 0 },
        { IMAGE_ZLIB, 0 }, { IMAGE_ZSTD, 0 }, { IMAGE_ZSTD, 2 },   { IMAGE_LZ4, 3 },
        { IMAGE_GZIP, 4 }, { IMAGE_TAR, 5 },  { IMAGE_NATIVE, 0 },
};

/** A path in a directory, of its own for each kind, with its suffix; malloc'ed. */
static inline char *kind_path(struct kind kind, const char *directory, const char *name) {
        return xasprintf("%s/%s-%u%s", directory, name, kind.streams,
                         kind.streams > 1 ? image_format_name(kind.format) : image_format_suffix(kind.format));
}

static inline struct image_write options_for(struct kind kind, const char *destination, const char *partial) {
        return (struct image_write){
                .format = kind.format,
                .streams = kind.streams,
                .codec = NATIVE_ZSTD,
                .destination = destination,
                .partial = partial,
                .uid = getuid(),
                .gid = getgid(),
                .cancel_fd = -EBADF,
        };
}

static inline int write_store(struct store *store, struct kind kind, const char *destination, struct st_error **err) {
        _cleanup_free_ char *partial = image_partial_path(destination, "7");
        struct image_write options = options_for(kind, destination, partial);
        return image_write(store, &options, err);
}

/** @return how many names a directory has */
static inline size_t count_entries(const char *directory) {
        DIR *dir = opendir(directory);
        assert_non_null(dir);
        size_t n = 0;
        while (readdir(dir))
                n++;
        closedir(dir);
        return n - 2;
}
