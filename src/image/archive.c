/* SPDX-License-Identifier: Apache-2.0 */
#include "image/archive.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"

#define INPUT_SIZE ((size_t)256 << 10)

struct archive {
        const char *path;
        int fd;
        const struct codec *codec;
        void *decoder;
        uint64_t position, end; /* of what is decoded */
        uint64_t hashed_end;    /* of what the footer's hash is of; 0: there is no footer */
        uint8_t *input;
        struct codec_io io;
        struct hasher *hasher;
        struct hash expected;
        struct tar_reader tar;
        bool at_end; /* tar_next() said so */
};

const struct codec *archive_recognise(int fd) {
        uint8_t head[CODEC_HEAD];
        ssize_t n = io_read_at(fd, head, sizeof(head), 0);
        return n > 0 ? codec_recognise(head, (size_t)n) : NULL;
}

static int damaged(struct archive *archive, struct st_error **err) {
        return st_error_set(err, EBADMSG, "%s is damaged", archive->path);
}

/** The same for what failed by damage; an error of the system stays what it is. */
static int failed(struct archive *archive, int r, struct st_error **err) {
        if (r == -EINVAL)
                return st_error_set(err, EINVAL, "%s cannot be used", archive->path);
        return r == -EBADMSG ? damaged(archive, err) : r;
}

static int read_footer(struct archive *archive, struct st_error **err) {
        struct stat st;
        uint8_t footer[FOOTER_MAX];
        const struct codec *codec = archive->codec;
        if (fstat(archive->fd, &st) < 0)
                return st_error_errno(err, errno, "cannot read %s", archive->path);
        uint64_t size = archive->end = (uint64_t)st.st_size;
        if (size < codec->footer_size)
                return 0;
        ssize_t n = io_read_at(archive->fd, footer, codec->footer_size, size - codec->footer_size);
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot read %s", archive->path);
        if ((size_t)n < codec->footer_size || !footer_parse(codec, footer, size, &archive->expected))
                return 0;
        archive->hashed_end = size - codec->footer_size;
        if (!codec->inside)
                archive->end = archive->hashed_end;
        return 0;
}

/** @return 1, 0 at the end of the bytes, -errno */
static int refill(struct archive *archive, struct st_error **err) {
        uint64_t left = archive->end - archive->position;
        size_t want = left < INPUT_SIZE ? (size_t)left : INPUT_SIZE;
        ssize_t n = io_read_at(archive->fd, archive->input, want, archive->position);
        if (n < 0)
                return st_error_errno(err, (int)n, "cannot read %s", archive->path);
        if ((size_t)n < want)
                return st_error_set(err, EBADMSG, "it became shorter");
        if (archive->hasher && archive->position < archive->hashed_end) {
                uint64_t rest = archive->hashed_end - archive->position;
                hasher_update(archive->hasher, archive->input, rest < want ? (size_t)rest : want);
        }
        archive->position += want;
        archive->io.in = archive->input;
        archive->io.in_size = want;
        return want > 0;
}

/** tar_read: the decoded bytes. */
static ssize_t decode(void *userdata, void *buffer, size_t n, struct st_error **err) {
        struct archive *archive = userdata;
        struct codec_io *io = &archive->io;
        io->out = buffer;
        io->out_size = n;
        while (io->out_size > 0) {
                int more = 1;
                if (io->in_size == 0) {
                        more = refill(archive, err);
                        if (more < 0)
                                return more;
                }
                if (more == 0 && io->ended)
                        break;
                size_t before = io->out_size;
                int r = archive->codec->decode(archive->decoder, io, err);
                if (r < 0)
                        return r;
                if (more == 0 && io->out_size == before && !io->ended)
                        return st_error_set(err, EBADMSG, "it is truncated");
        }
        return (ssize_t)(n - io->out_size);
}

struct archive *archive_free(struct archive *archive) {
        if (!archive)
                return NULL;
        archive->codec->decoder_free(archive->decoder);
        hasher_free(archive->hasher);
        tar_clear(&archive->tar);
        free(archive->input);
        free(archive);
        return NULL;
}

int archive_open(const char *path, int fd, const struct codec *codec, struct archive **ret, struct st_error **err) {
        _cleanup_(archive_freep) struct archive *archive = NEW(struct archive);
        archive->path = path;
        archive->fd = fd;
        archive->codec = codec;
        archive->input = malloc(INPUT_SIZE);
        int r = archive->input ? read_footer(archive, err) : st_error_errno(err, ENOMEM, "cannot read %s", path);
        if (r < 0)
                return r;
        bool ours = archive_is_ours(archive);
        archive->tar = (struct tar_reader){ .read = decode, .userdata = archive, .foreign = !ours };
        archive->hasher = ours ? hasher_new() : NULL;
        r = codec->decoder_new(!ours, &archive->decoder);
        if (r < 0)
                return st_error_errno(err, r, "cannot read %s", path);
        *ret = TAKE_PTR(archive);
        return 0;
}

bool archive_is_ours(const struct archive *archive) {
        return archive->hashed_end > 0;
}

int archive_read_manifest(struct archive *archive, struct manifest *ret, struct st_error **err) {
        int r = tar_next(&archive->tar, err);
        if (r < 0)
                return failed(archive, r, err);
        if (r == 0 || !streq(archive->tar.name, IMAGE_MANIFEST))
                st_error_set(err, EBADMSG, "its manifest is missing");
        else if (archive->tar.size > MANIFEST_TEXT_MAX)
                st_error_set(err, EBADMSG, "its manifest is too large");
        else
                r = 0;
        if (r != 0)
                return damaged(archive, err);
        size_t size = (size_t)archive->tar.size;
        _cleanup_free_ char *text = malloc(size + 1);
        if (!text)
                return st_error_errno(err, ENOMEM, "cannot read the manifest of %s", archive->path);
        for (size_t at = 0; at < size;) {
                ssize_t n = tar_read_data(&archive->tar, text + at, size - at, err);
                if (n < 0)
                        return failed(archive, (int)n, err);
                at += (size_t)n;
        }
        return manifest_parse(text, size, ret, err) < 0 ? damaged(archive, err) : 0;
}

/** @return 1: archive->tar is at the next file; 0: there is none; -errno */
static int advance(struct archive *archive, struct st_error **err) {
        int r = tar_next(&archive->tar, err);
        if (r < 0)
                return failed(archive, r, err);
        archive->at_end = r == 0;
        return r;
}

int archive_list(struct archive *archive, const char **ret_name, uint64_t *ret_size, struct st_error **err) {
        int r = advance(archive, err);
        if (r < 0)
                return r;
        *ret_name = archive->tar.name;
        *ret_size = archive->tar.size;
        return r;
}

int archive_next(struct archive *archive, const char *name, uint64_t size, struct st_error **err) {
        const struct tar_reader *tar = &archive->tar;
        int r = advance(archive, err);
        if (r < 0)
                return r;
        if (r == 0)
                st_error_set(err, EBADMSG, "%s is missing in it", name);
        else if (!streq(name, tar->name))
                st_error_set(err, EBADMSG, "%s does not belong there", tar->name);
        else if (size != tar->size)
                st_error_set(err, EBADMSG, "%s has %" PRIu64 " bytes instead of %" PRIu64, name, tar->size, size);
        else
                return 0;
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

/** The padding behind the last file, and the footer where that is a part of it. */
static int read_padding(struct archive *archive, struct st_error **err) {
        uint8_t tail[FOOTER_PAYLOAD], payload[FOOTER_PAYLOAD];
        bool inside = archive->codec->inside && archive_is_ours(archive);
        int r = 0;
        if (!archive->at_end) {
                r = tar_next(&archive->tar, err);
                if (r > 0)
                        return st_error_set(err, EBADMSG, "%s does not belong there", archive->tar.name);
        }
        if (r == 0)
                r = tar_end(&archive->tar, inside ? tail : NULL, inside ? sizeof(tail) : 0, err);
        if (r < 0 || !inside)
                return r;
        footer_make(payload, archive->hashed_end, archive->expected);
        return memcmp(tail, payload, sizeof(tail)) == 0 ? 0 : st_error_set(err, EBADMSG, "its footer is not right");
}

int archive_end(struct archive *archive, struct st_error **err) {
        int r = read_padding(archive, err);
        if (r == 0 && archive->hasher && !hash_equal(hasher_finish(archive->hasher), archive->expected))
                r = st_error_set(err, EBADMSG, "its compressed bytes have a wrong checksum");
        return failed(archive, r, err);
}
