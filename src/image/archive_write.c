/* SPDX-License-Identifier: Apache-2.0 */

/* Writing the formats that are archives: one file, or a directory of several that are written at the same time. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "image/codec.h"
#include "image/formats.h"
#include "image/layout.h"
#include "image/podman.h"
#include "image/tar.h"
#include "image/threads.h"

/** How much is handed to the disk at once while more is being made. */
#define WRITEBACK_STEP ((uint64_t)8 << 20)

/** What all archives of a checkpoint share. */
struct archiving {
        struct writing *writing;
        int fd; /* what stands at the hidden path: the archive, or the directory of several */
        const struct codec *codec;
        struct layout layout;
        char *manifest; /* as text */
        size_t manifest_size;
        int64_t now;
};

/** One archive on its way. */
struct part {
        const struct archiving *archiving;
        unsigned number;
        int fd;
        void *encoder;
        struct hasher *hasher;     /* of the encoded bytes */
        uint64_t written, started; /* of them; and handed to the disk */
};

static void part_clear(struct part *part) {
        part->archiving->codec->encoder_free(part->encoder);
        hasher_free(part->hasher);
}

/** codec_put: encoded bytes, all but the footer's, which it is called for with the hasher gone. */
static int put(void *userdata, const void *data, size_t length, struct st_error **err) {
        struct part *part = userdata;
        struct writing *writing = part->archiving->writing;
        if (part->hasher)
                hasher_update(part->hasher, data, length);
        int r = io_write_full(part->fd, data, length);
        if (r < 0)
                return writing_failed(writing, r, err);
        part->written += length;
        if (part->written - part->started >= WRITEBACK_STEP) {
                (void)sync_file_range(part->fd, (off_t)part->started, (off_t)(part->written - part->started),
                                      SYNC_FILE_RANGE_WRITE);
                part->started = part->written;
        }
        return writing_step(writing, 0, err);
}

static int encode(struct part *part, const void *data, size_t length, struct st_error **err) {
        return part->archiving->codec->encode(part->encoder, data, length, err);
}

static int encode_header(struct part *part, const char *name, uint64_t size, struct st_error **err) {
        uint8_t block[TAR_BLOCK];
        const struct image_write *options = part->archiving->writing->options;
        int r = tar_make_header(block, name, size, options->uid, options->gid, part->archiving->now);
        if (r < 0)
                return st_error_set(err, r, "the name %s is too long for an archive", name);
        return encode(part, block, sizeof(block), err);
}

static int encode_padding(struct part *part, uint64_t size, struct st_error **err) {
        static const uint8_t zeros[TAR_BLOCK];
        return encode(part, zeros, tar_padding(size), err);
}

/** A piece's name in the archive, malloc'ed; NULL: it does not belong there. */
static char *name_of(const struct archiving *archiving, const struct piece *piece) {
        const struct writing *writing = archiving->writing;
        return writing->options->podman ? podman_path(writing->files[piece->entry]->name)
                                        : layout_piece_name(&writing->manifest, piece);
}

static int encode_piece(struct part *part, const struct piece *piece, struct st_error **err) {
        struct writing *writing = part->archiving->writing;
        const struct store_file *file = writing->files[piece->entry];
        _cleanup_(store_reader_clear) struct store_reader reader = { .store = writing->store, .file = file };
        _cleanup_free_ char *name = name_of(part->archiving, piece);
        if (!name)
                return 0;
        int r = encode_header(part, name, piece->size, err);
        store_seek(&reader, piece->offset);
        for (uint64_t left = piece->size; left > 0 && r >= 0;) {
                const uint8_t *data;
                ssize_t got = store_read(&reader, &data);
                if (got <= 0)
                        return st_error_errno(err, got < 0 ? (int)got : EIO, "cannot read back %s", file->name);
                size_t n = (uint64_t)got < left ? (size_t)got : (size_t)left;
                r = encode(part, data, n, err);
                if (r >= 0)
                        r = writing_step(writing, n, err);
                left -= n;
        }
        return r < 0 ? r : encode_padding(part, piece->size, err);
}

/** The files, the end of a tar, the footer. */
static int encode_all(struct part *part, struct st_error **err) {
        static const uint8_t end[2 * TAR_BLOCK];
        const struct archiving *archiving = part->archiving;
        const struct codec *codec = archiving->codec;
        int r = 0;
        bool podman = archiving->writing->options->podman;
        if (part->number == 0 && !podman) {
                r = encode_header(part, IMAGE_MANIFEST, archiving->manifest_size, err);
                if (r == 0)
                        r = encode(part, archiving->manifest, archiving->manifest_size, err);
                if (r == 0)
                        r = encode_padding(part, archiving->manifest_size, err);
        }
        for (size_t i = 0; i < archiving->layout.n && r == 0; i++)
                if (archiving->layout.pieces[i].part == part->number)
                        r = encode_piece(part, &archiving->layout.pieces[i], err);
        if (r == 0)
                r = encode(part, end, sizeof(end), err);
        if (r == 0)
                r = codec->finish(part->encoder, err);
        if (r < 0 || podman)
                return r;
        uint8_t payload[FOOTER_PAYLOAD], footer[FOOTER_MAX];
        footer_make(payload, part->written, hasher_finish(part->hasher));
        codec->make_footer(part->encoder, payload, footer);
        part->hasher = hasher_free(part->hasher);
        return put(part, footer, codec->footer_size, err);
}

/** Bytes of the tar. */
static uint64_t tar_size(const struct archiving *archiving, unsigned number) {
        uint64_t total = 2 * TAR_BLOCK;
        if (number == 0 && !archiving->writing->options->podman)
                total += TAR_BLOCK + archiving->manifest_size + tar_padding(archiving->manifest_size);
        for (size_t i = 0; i < archiving->layout.n; i++) {
                const struct piece *piece = &archiving->layout.pieces[i];
                _cleanup_free_ char *name = name_of(archiving, piece);
                if (piece->part == number && name)
                        total += TAR_BLOCK + piece->size + tar_padding(piece->size);
        }
        return total;
}

/** @param fd the file, empty; it stays the caller's */
static int write_part(const struct archiving *archiving, unsigned number, int fd, struct st_error **err) {
        _cleanup_(part_clear) struct part part = {
                .archiving = archiving,
                .number = number,
                .fd = fd,
                .hasher = hasher_new(),
        };
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        struct codec_encoding encoding = {
                .size = tar_size(archiving, number),
                .threads = archiving->layout.parts > 1 ? 0
                           : cores > 1                 ? (unsigned)cores
                                                       : 1,
                .put = put,
                .userdata = &part,
        };
        int r = archiving->codec->encoder_new(&encoding, &part.encoder, err);
        if (r == 0)
                r = encode_all(&part, err);
        if (r == 0 && fsync(part.fd) < 0)
                r = writing_failed(archiving->writing, errno, err);
        return r;
}

static int write_job(size_t index, void *userdata, struct st_error **err) {
        const struct archiving *archiving = userdata;
        const struct image_write *options = archiving->writing->options;
        _cleanup_free_ char *name = layout_part_name((unsigned)index, archiving->codec->suffix);
        _cleanup_close_ int fd =
                openat(archiving->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r = fd < 0 || fchown(fd, options->uid, options->gid) < 0 ? writing_failed(archiving->writing, errno, err)
                                                                     : write_part(archiving, (unsigned)index, fd, err);
        if (r < 0)
                atomic_store(&archiving->writing->failed, true);
        return r;
}

static int write_directory(struct archiving *archiving, struct st_error **err) {
        int r = threads_run_all(archiving->layout.parts, write_job, archiving, err);
        if (r == 0 && fsync(archiving->fd) < 0)
                r = writing_failed(archiving->writing, errno, err);
        return r;
}

static int hash_job(size_t index, void *userdata, struct st_error **err) {
        return writing_hash(userdata, index, err);
}

int archive_write(struct writing *writing, int fd, struct st_error **err) {
        struct archiving archiving = {
                .writing = writing,
                .fd = fd,
                .codec = codec_of(writing->options->format),
                .now = time(NULL),
        };
        int r = threads_run(writing->n_files, hash_job, writing, err);
        if (r == 0)
                r = layout_make(&writing->manifest, &archiving.layout, err);
        if (r < 0)
                return r;
        archiving.manifest = manifest_to_text(&writing->manifest, &archiving.manifest_size);
        if (archiving.manifest_size > MANIFEST_TEXT_MAX)
                r = st_error_set(err, E2BIG, "the manifest of %zu files would be too large", writing->n_files);
        else
                r = archiving.layout.parts > 1 ? write_directory(&archiving, err) : write_part(&archiving, 0, fd, err);
        layout_clear(&archiving.layout);
        free(archiving.manifest);
        return r;
}
