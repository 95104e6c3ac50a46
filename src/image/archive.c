/* SPDX-License-Identifier: Apache-2.0 */
#include "image/archive.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"

#define INPUT_SIZE ((size_t)256 << 10)
/** Frames that want more memory to decode are not ours: level 1 asks for 512 KiB. */
#define WINDOW_LOG_MAX 27
#define FOOTER_MAGIC (ZSTD_MAGIC_SKIPPABLE_START + 5)
#define FOOTER_NAME "stasis 1"

struct archive {
        const char *path;
        int fd;
        off_t position, end; /* of the compressed bytes, the footer excluded */
        ZSTD_DCtx *context;
        uint8_t *input;
        ZSTD_inBuffer in;
        bool frame_ended;
        struct hasher *hasher; /* NULL: not checked */
        struct hash expected;
        struct tar_reader tar;
        size_t entry; /* of the manifest, the next one */
};

struct footer {
        uint32_t magic, size;
        char name[8];
        uint64_t length, high, low;
};
_Static_assert(sizeof(struct footer) == ARCHIVE_FOOTER, "the footer has no holes");

void archive_make_footer(uint8_t bytes[ARCHIVE_FOOTER], uint64_t length, struct hash hash) {
        struct footer footer = {
                .magic = htole32(FOOTER_MAGIC),
                .size = htole32(ARCHIVE_FOOTER - 8),
                .length = htole64(length),
                .high = htole64(hash.high),
                .low = htole64(hash.low),
        };
        memcpy(footer.name, FOOTER_NAME, sizeof(footer.name));
        memcpy(bytes, &footer, sizeof(footer));
}

/** Reads at an offset. @return how many bytes, fewer at the end; -errno */
static ssize_t read_at(int fd, void *buffer, size_t n, off_t offset) {
        size_t have = 0;
        while (have < n) {
                ssize_t got = pread(fd, (uint8_t *)buffer + have, n - have, offset + (off_t)have);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        break;
                have += (size_t)got;
        }
        return (ssize_t)have;
}

bool archive_recognise(int fd) {
        uint32_t magic;
        return read_at(fd, &magic, sizeof(magic), 0) == sizeof(magic) && le32toh(magic) == ZSTD_MAGICNUMBER;
}

static int damaged(struct archive *archive, struct st_error **err) {
        return st_error_set(err, EBADMSG, "%s is damaged", archive->path);
}

static int read_footer(struct archive *archive, struct st_error **err) {
        struct stat st;
        struct footer footer;
        if (fstat(archive->fd, &st) < 0)
                return st_error_errno(err, errno, "cannot read %s", archive->path);
        archive->end = st.st_size - ARCHIVE_FOOTER;
        ssize_t n = archive->end < 0 ? 0 : read_at(archive->fd, &footer, sizeof(footer), archive->end);
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot read %s", archive->path);
        if (n < ARCHIVE_FOOTER || le32toh(footer.magic) != FOOTER_MAGIC || le32toh(footer.size) != ARCHIVE_FOOTER - 8 ||
            memcmp(footer.name, FOOTER_NAME, sizeof(footer.name)) != 0 ||
            le64toh(footer.length) != (uint64_t)archive->end) {
                st_error_set(err, EBADMSG, "it is truncated, or was not written by stasis");
                st_error_hint(err, "what other programs packed can be used when it is unpacked into a directory");
                return damaged(archive, err);
        }
        archive->expected = (struct hash){ .high = le64toh(footer.high), .low = le64toh(footer.low) };
        return 0;
}

/** More compressed bytes. @return 1, 0 at the end, -errno with err */
static int refill(struct archive *archive, struct st_error **err) {
        off_t left = archive->end - archive->position;
        if (left == 0)
                return 0;
        size_t want = left < (off_t)INPUT_SIZE ? (size_t)left : INPUT_SIZE;
        ssize_t n = read_at(archive->fd, archive->input, want, archive->position);
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot read %s", archive->path);
        if (n == 0)
                return st_error_set(err, EBADMSG, "it became shorter");
        if (archive->hasher)
                hasher_update(archive->hasher, archive->input, (size_t)n);
        archive->position += n;
        archive->in = (ZSTD_inBuffer){ .src = archive->input, .size = (size_t)n };
        return 1;
}

/** tar_read: the decompressed bytes. */
static ssize_t decode(void *userdata, void *buffer, size_t n, struct st_error **err) {
        struct archive *archive = userdata;
        ZSTD_outBuffer out = { .dst = buffer, .size = n };
        while (out.pos < out.size) {
                bool more = archive->in.pos < archive->in.size;
                if (!more && !archive->frame_ended) {
                        int r = refill(archive, err);
                        if (r < 0)
                                return r;
                        more = r > 0;
                }
                if (archive->frame_ended) /* one frame is all that may be there */
                        return more || archive->position < archive->end
                                       ? st_error_set(err, EBADMSG, "something follows its end")
                                       : (ssize_t)out.pos;
                size_t before = out.pos;
                size_t r = ZSTD_decompressStream(archive->context, &out, &archive->in);
                if (ZSTD_isError(r))
                        return st_error_set(err, EBADMSG, "it does not decode: %s", ZSTD_getErrorName(r));
                archive->frame_ended = r == 0;
                if (!more && r != 0 && out.pos == before)
                        return st_error_set(err, EBADMSG, "it is truncated");
        }
        return (ssize_t)out.pos;
}

struct archive *archive_free(struct archive *archive) {
        if (!archive)
                return NULL;
        ZSTD_freeDCtx(archive->context);
        hasher_free(archive->hasher);
        free(archive->input);
        free(archive);
        return NULL;
}

/** The first entry. */
static int read_manifest(struct archive *archive, struct manifest *ret, struct st_error **err) {
        int r = tar_next(&archive->tar, err);
        if (r < 0)
                return damaged(archive, err);
        if (r == 0 || !streq(archive->tar.name, IMAGE_MANIFEST))
                return st_error_set(err, EINVAL, "not a checkpoint: %s is an archive without a manifest",
                                    archive->path);
        if (archive->tar.size > MANIFEST_TEXT_MAX) {
                st_error_set(err, EBADMSG, "its manifest is too large");
                return damaged(archive, err);
        }
        size_t size = (size_t)archive->tar.size;
        _cleanup_free_ char *text = malloc(size + 1);
        if (!text)
                return st_error_errno(err, ENOMEM, "cannot read the manifest of %s", archive->path);
        for (size_t at = 0; at < size;) {
                ssize_t n = tar_read_data(&archive->tar, text + at, size - at, err);
                if (n < 0)
                        return damaged(archive, err);
                at += (size_t)n;
        }
        return manifest_parse(text, size, ret, err) < 0 ? damaged(archive, err) : 0;
}

int archive_open(const char *path, int fd, bool checked, struct archive **ret, struct manifest *ret_manifest,
                 struct st_error **err) {
        _cleanup_(archive_freep) struct archive *archive = NEW(struct archive);
        archive->path = path;
        archive->fd = fd;
        archive->hasher = checked ? hasher_new() : NULL;
        archive->tar = (struct tar_reader){ .read = decode, .userdata = archive };
        archive->input = malloc(INPUT_SIZE);
        archive->context = ZSTD_createDCtx();
        if (!archive->input || !archive->context)
                return st_error_errno(err, ENOMEM, "cannot read %s", path);
        ZSTD_DCtx_setParameter(archive->context, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
        int r = read_footer(archive, err);
        if (r == 0)
                r = read_manifest(archive, ret_manifest, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(archive);
        return 0;
}

int archive_next(struct archive *archive, const struct manifest *manifest, const struct manifest_entry **ret,
                 struct st_error **err) {
        int r = tar_next(&archive->tar, err);
        if (r < 0)
                return r == -EBADMSG ? damaged(archive, err) : r;
        const struct manifest_entry *entry = archive->entry < manifest->n ? &manifest->entries[archive->entry] : NULL;
        if (r == 0 && !entry)
                return 0;
        if (r == 0)
                st_error_set(err, EBADMSG, "%s is missing in it", entry->name);
        else if (!entry || !streq(entry->name, archive->tar.name))
                st_error_set(err, EBADMSG, "%s does not belong there", archive->tar.name);
        else if (entry->size != archive->tar.size)
                st_error_set(err, EBADMSG, "%s has %" PRIu64 " bytes instead of %" PRIu64, entry->name,
                             archive->tar.size, entry->size);
        else {
                archive->entry++;
                *ret = entry;
                return 1;
        }
        return damaged(archive, err);
}

ssize_t archive_read(struct archive *archive, void *buffer, size_t n, struct st_error **err) {
        ssize_t got = tar_read_data(&archive->tar, buffer, n, err);
        if (got == -EBADMSG) {
                st_error_set(err, EBADMSG, "%s cannot be read", archive->tar.name);
                return damaged(archive, err);
        }
        return got;
}

int archive_end(struct archive *archive, struct st_error **err) {
        if (hash_equal(hasher_finish(archive->hasher), archive->expected))
                return 0;
        st_error_set(err, EBADMSG, "its compressed bytes have a wrong checksum");
        return damaged(archive, err);
}
