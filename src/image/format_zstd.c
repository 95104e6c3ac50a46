/* SPDX-License-Identifier: Apache-2.0 */

/* Writing the format `zstd`, see archive.h. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "image/formats.h"
#include "image/threads.h"

/** Level 3 is not smaller by more than 1 %, and takes a third longer. */
#define LEVEL 1
#define WORKERS_MAX 64
#define OUTPUT_SIZE ((size_t)1 << 20)
#define WRITEBACK_STEP ((uint64_t)8 << 20)

struct encoder {
        struct writing *writing;
        int fd;
        ZSTD_CCtx *context;
        uint8_t *output;
        struct hasher *hasher;     /* of the compressed bytes */
        uint64_t written, started; /* of them */
        int64_t now;
};

static void encoder_clear(struct encoder *encoder) {
        ZSTD_freeCCtx(encoder->context);
        hasher_free(encoder->hasher);
        free(encoder->output);
        if (encoder->fd >= 0)
                close(encoder->fd);
}

static int put(struct encoder *encoder, const void *data, size_t length, struct st_error **err) {
        int r = io_write_full(encoder->fd, data, length);
        if (r < 0)
                return writing_failed(encoder->writing, r, err);
        encoder->written += length;
        if (encoder->written - encoder->started >= WRITEBACK_STEP) {
                (void)sync_file_range(encoder->fd, (off_t)encoder->started,
                                      (off_t)(encoder->written - encoder->started), SYNC_FILE_RANGE_WRITE);
                encoder->started = encoder->written;
        }
        return 0;
}

static int encode(struct encoder *encoder, const void *data, size_t length, ZSTD_EndDirective mode,
                  struct st_error **err) {
        ZSTD_inBuffer in = { .src = data, .size = length };
        for (;;) {
                ZSTD_outBuffer out = { .dst = encoder->output, .size = OUTPUT_SIZE };
                size_t left = ZSTD_compressStream2(encoder->context, &out, &in, mode);
                if (ZSTD_isError(left))
                        return st_error_set(err, EIO, "compression failed: %s", ZSTD_getErrorName(left));
                hasher_update(encoder->hasher, encoder->output, out.pos);
                int r = put(encoder, encoder->output, out.pos, err);
                if (r == 0)
                        r = writing_step(encoder->writing, 0, err);
                if (r < 0)
                        return r;
                if (mode == ZSTD_e_end ? left == 0 : in.pos == in.size)
                        return 0;
        }
}

static int encode_header(struct encoder *encoder, const char *name, uint64_t size, struct st_error **err) {
        uint8_t block[TAR_BLOCK];
        const struct image_write *options = encoder->writing->options;
        int r = tar_make_header(block, name, size, options->uid, options->gid, encoder->now);
        if (r < 0)
                return st_error_set(err, r, "the name %s is too long for an archive", name);
        return encode(encoder, block, sizeof(block), ZSTD_e_continue, err);
}

static int encode_padding(struct encoder *encoder, uint64_t size, struct st_error **err) {
        static const uint8_t zeros[TAR_BLOCK];
        return encode(encoder, zeros, tar_padding(size), ZSTD_e_continue, err);
}

static int encode_file(struct encoder *encoder, const struct store_file *file, struct st_error **err) {
        _cleanup_(store_reader_clear) struct store_reader reader = { .store = encoder->writing->store, .file = file };
        int r = encode_header(encoder, file->name, file->size, err);
        if (r < 0)
                return r;
        const uint8_t *piece;
        ssize_t n;
        while ((n = store_read(&reader, &piece)) > 0) {
                r = encode(encoder, piece, (size_t)n, ZSTD_e_continue, err);
                if (r == 0)
                        r = writing_step(encoder->writing, (uint64_t)n, err);
                if (r < 0)
                        return r;
        }
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot read back %s", file->name);
        return encode_padding(encoder, file->size, err);
}

static int encode_all(struct encoder *encoder, const char *manifest, size_t manifest_size, struct st_error **err) {
        static const uint8_t end[2 * TAR_BLOCK];
        int r = encode_header(encoder, IMAGE_MANIFEST, manifest_size, err);
        if (r == 0)
                r = encode(encoder, manifest, manifest_size, ZSTD_e_continue, err);
        if (r == 0)
                r = encode_padding(encoder, manifest_size, err);
        for (size_t i = 0; i < encoder->writing->n_files && r == 0; i++)
                r = encode_file(encoder, encoder->writing->files[i], err);
        if (r == 0)
                r = encode(encoder, end, sizeof(end), ZSTD_e_end, err);
        if (r < 0)
                return r;
        uint8_t footer[ARCHIVE_FOOTER];
        archive_make_footer(footer, encoder->written, hasher_finish(encoder->hasher));
        return put(encoder, footer, sizeof(footer), err);
}

static int encoder_open(struct encoder *encoder, size_t manifest_size, struct st_error **err) {
        const struct image_write *options = encoder->writing->options;
        encoder->fd = open(options->partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (encoder->fd < 0 || fchown(encoder->fd, options->uid, options->gid) < 0)
                return writing_failed(encoder->writing, errno, err);
        encoder->context = ZSTD_createCCtx();
        encoder->output = malloc(OUTPUT_SIZE);
        if (!encoder->context || !encoder->output)
                return st_error_errno(err, ENOMEM, "cannot compress");

        uint64_t total = 3 * TAR_BLOCK + manifest_size + tar_padding(manifest_size);
        for (size_t i = 0; i < encoder->writing->n_files; i++) {
                uint64_t size = encoder->writing->files[i]->size;
                total += TAR_BLOCK + size + tar_padding(size);
        }
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        ZSTD_CCtx_setParameter(encoder->context, ZSTD_c_compressionLevel, LEVEL);
        ZSTD_CCtx_setParameter(encoder->context, ZSTD_c_checksumFlag, 1);
        /* A library that was built without threads says no, and compresses in this one. */
        if (total > OUTPUT_SIZE)
                ZSTD_CCtx_setParameter(encoder->context, ZSTD_c_nbWorkers,
                                       cores < 1             ? 1
                                       : cores < WORKERS_MAX ? (int)cores
                                                             : WORKERS_MAX);
        ZSTD_CCtx_setPledgedSrcSize(encoder->context, total);
        return 0;
}

static int hash_job(size_t index, void *userdata, struct st_error **err) {
        return writing_hash(userdata, index, err);
}

int zstd_write(struct writing *writing, struct st_error **err) {
        int r = threads_run(writing->n_files, hash_job, writing, err);
        if (r < 0)
                return r;
        size_t size;
        _cleanup_free_ char *manifest = manifest_to_text(&writing->manifest, &size);
        if (size > MANIFEST_TEXT_MAX)
                return st_error_set(err, E2BIG, "the manifest of %zu files would be too large", writing->n_files);

        _cleanup_(encoder_clear) struct encoder encoder = {
                .writing = writing,
                .fd = -EBADF,
                .hasher = hasher_new(),
                .now = time(NULL),
        };
        r = encoder_open(&encoder, size, err);
        if (r == 0)
                r = encode_all(&encoder, manifest, size, err);
        if (r == 0 && fsync(encoder.fd) < 0)
                r = writing_failed(writing, errno, err);
        return r;
}
