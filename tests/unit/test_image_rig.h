/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A checkpoint that is served to what behaves like CRIU. */

#include "test_image_criu.h"

#include <stdio.h>

#include "base/text.h"
#include "image/image.h"
#include "image/serve.h"
#include "image/streamer.h"

struct rig {
        char *directory, *path;
        struct image *image;
        struct serve *serve;
        int connection;
};

/** Writes a store, which it frees, as DIRECTORY/cp plus suffix. @return its path, malloc'ed */
static inline char *write_image(const char *directory, struct kind kind, struct store *store) {
        char *path = kind_path(kind, directory, "cp");
        struct st_error *error = NULL;
        assert_ok(write_store(store, kind, path, &error), error);
        store_free(store);
        return path;
}

static inline void rig_write(struct rig *rig, struct kind kind) {
        rig->directory = make_directory();
        rig->path = write_image(rig->directory, kind, make_store(rig->directory, 64 * MIB));
}

static inline void rig_start(struct rig *rig, uint64_t budget) {
        struct st_error *error = NULL;
        assert_ok(image_open(rig->path, &rig->image, &error), error);
        assert_ok(serve_start(rig->image, rig->directory, budget, rig->directory, NULL, NULL, &rig->serve, &error),
                  error);
        _cleanup_free_ char *path = path_join(rig->directory, STREAMER_SERVE_SOCKET);
        rig->connection = io_connect_unix(path); /* fails when damage was found already */
}

static inline int rig_finish(struct rig *rig, char **ret_message) {
        struct st_error *error = NULL;
        int r = serve_finish(rig->serve, &error);
        assert_true((r < 0) == (error != NULL));
        if (ret_message)
                *ret_message = xstrdup(st_error_message(error));
        st_error_free(error);
        image_free(rig->image);
        return r;
}

static inline void rig_clear(struct rig *rig) {
        free(rig->path);
        remove_directory(rig->directory);
}

/** Reads a pipe to its end. @return the length; malloc'ed bytes */
static inline size_t read_pipe(int fd, uint8_t **ret) {
        size_t have = 0, room = 64 << 10;
        uint8_t *bytes = xmalloc(room);
        for (;;) {
                if (have == room)
                        bytes = xrealloc(bytes, room *= 2, 1);
                ssize_t n = read(fd, bytes + have, room - have);
                assert_true(n >= 0);
                if (n == 0)
                        break;
                have += (size_t)n;
        }
        close(fd);
        *ret = bytes;
        return have;
}

static inline void flip(const char *path, off_t at) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        uint8_t byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 4;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
}

/** Reads all files in order until one fails. @return whether all came wholly */
static inline bool read_everything(struct rig *rig, size_t n_samples) {
        if (rig->connection < 0)
                return false;
        for (size_t i = 0; i < n_samples; i++) {
                int fd = criu_restore_file(rig->connection, samples[i].name);
                if (fd < 0)
                        return false;
                uint8_t *bytes;
                size_t n = read_pipe(fd, &bytes);
                bool whole = n == samples[i].size;
                if (whole)
                        assert_bytes(bytes, n, i + 1);
                free(bytes);
                if (!whole)
                        return false;
        }
        return true;
}
