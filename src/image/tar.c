/* SPDX-License-Identifier: Apache-2.0 */
#include "image/tar.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "image/podman.h"

/* Offsets and lengths of the fields of a header. */
enum {
        NAME = 0,
        MODE = 100,
        UID = 108,
        GID = 116,
        SIZE = 124,
        MTIME = 136,
        CHECKSUM = 148,
        TYPE = 156,
        MAGIC = 257,
        PREFIX = 345,
        PREFIX_LENGTH = 155,
};
#define SIZE_LENGTH 12
#define SIZE_OCTAL_MAX UINT64_C(077777777777)
/** More blocks of zeros than any writer's block size makes. */
#define END_BLOCKS_MAX 4096
/** Directories and extended headers one after the other in a foreign archive. */
#define FOREIGN_HEADERS_MAX 10000

/** Writes a number in octal, zero-filled, with a NUL; one that is too large for its field becomes its maximum. */
static void put_octal(uint8_t *field, size_t length, uint64_t value) {
        char digits[24];
        uint64_t max = (UINT64_C(1) << 3 * (length - 1)) - 1;
        snprintf(digits, sizeof(digits), "%0*" PRIo64, (int)length - 1, value < max ? value : max);
        memcpy(field, digits, length);
}

static unsigned checksum(const uint8_t block[TAR_BLOCK]) {
        unsigned sum = 0;
        for (size_t i = 0; i < TAR_BLOCK; i++)
                sum += i >= CHECKSUM && i < CHECKSUM + 8 ? ' ' : block[i];
        return sum;
}

int tar_make_header(uint8_t block[TAR_BLOCK], const char *name, uint64_t size, uid_t uid, gid_t gid, int64_t mtime) {
        size_t length = strlen(name);
        if (length > TAR_NAME_MAX)
                return -ENAMETOOLONG;
        memset(block, 0, TAR_BLOCK);
        memcpy(block + NAME, name, length);
        put_octal(block + MODE, 8, 0600);
        put_octal(block + UID, 8, uid);
        put_octal(block + GID, 8, gid);
        if (size <= SIZE_OCTAL_MAX) {
                put_octal(block + SIZE, SIZE_LENGTH, size);
        } else {
                block[SIZE] = 0x80;
                for (size_t i = 0; i < 8; i++)
                        block[SIZE + SIZE_LENGTH - 1 - i] = (uint8_t)(size >> 8 * i);
        }
        put_octal(block + MTIME, 12, mtime > 0 ? (uint64_t)mtime : 0);
        block[TYPE] = '0';
        memcpy(block + MAGIC,
               "ustar\0"
               "00",
               8);
        put_octal(block + CHECKSUM, 7, checksum(block));
        block[CHECKSUM + 7] = ' ';
        return 0;
}

/** Digits ended by a space or a NUL, or filling the field. */
static bool get_octal(const uint8_t *field, size_t length, uint64_t *ret) {
        uint64_t value = 0;
        size_t i = 0;
        while (i < length && field[i] == ' ')
                i++;
        size_t first = i;
        for (; i < length && field[i] >= '0' && field[i] <= '7'; i++)
                value = value << 3 | (uint64_t)(field[i] - '0');
        if (i == first || (i < length && field[i] != ' ' && field[i] != 0))
                return false;
        *ret = value;
        return true;
}

static bool get_size(const uint8_t *field, uint64_t *ret) {
        if (field[0] != 0x80)
                return get_octal(field, SIZE_LENGTH, ret) && *ret <= TAR_SIZE_MAX;
        uint64_t value = 0;
        for (size_t i = 1; i < SIZE_LENGTH; i++) {
                if (value >> 56 != 0)
                        return false;
                value = value << 8 | field[i];
        }
        *ret = value;
        return value <= TAR_SIZE_MAX;
}

static bool is_zero(const uint8_t block[TAR_BLOCK]) {
        return block[0] == 0 && memcmp(block, block + 1, TAR_BLOCK - 1) == 0;
}

/** Checks what all headers have in common. */
static int check_header(const uint8_t block[TAR_BLOCK], struct st_error **err) {
        uint64_t sum;
        if (!get_octal(block + CHECKSUM, 8, &sum) || sum != checksum(block))
                return st_error_set(err, EBADMSG, "the header of a file in it is not valid");
        if (memcmp(block + MAGIC, "ustar", 5) != 0)
                return st_error_set(err, EBADMSG, "a file in it is not in the ustar format");
        return 0;
}

/** The path as the header has it; prefix: with the directory of ustar. malloc'ed */
static char *header_path(const uint8_t block[TAR_BLOCK], bool prefix) {
        const char *name = (const char *)block + NAME, *directory = (const char *)block + PREFIX;
        /* GNU's own format has other things there. */
        if (!prefix || memcmp(block + MAGIC, "ustar\0", 6) != 0 || *directory == 0)
                return xstrndup(name, strnlen(name, TAR_NAME_MAX));
        return xasprintf("%.*s/%.*s", (int)strnlen(directory, PREFIX_LENGTH), directory,
                         (int)strnlen(name, TAR_NAME_MAX), name);
}

/** What a file is that does not belong there, by its type. */
static const char *describe_type(uint8_t type) {
        switch (type) {
        case '1':
                return "a hard link";
        case '2':
                return "a symbolic link";
        case '3':
        case '4':
                return "a device";
        case '6':
                return "a FIFO";
        case 'S':
                return "a sparse file";
        default:
                return "no regular file";
        }
}

static bool is_file(uint8_t type) {
        return type == '0' || type == 0 || type == '7';
}

/** The error for what does not belong there: one of ours is damaged, a foreign one is none of a checkpoint. */
static int unfit(const struct tar_reader *reader) {
        return reader->foreign ? EINVAL : EBADMSG;
}

static int begin_file(struct tar_reader *reader, const char *name, uint8_t type, uint64_t size, struct st_error **err) {
        if (!path_is_name(name) || strlen(name) >= sizeof(reader->name))
                return st_error_set(err, unfit(reader), "a file in it has the name '%s'", name);
        if (!is_file(type) || (type == '7' && !reader->foreign))
                return st_error_set(err, unfit(reader), "%s in it is %s, not a regular file", name,
                                    describe_type(type));
        memcpy(reader->name, name, strlen(name) + 1);
        reader->left = reader->size = size;
        reader->padding = tar_padding(size);
        return 1;
}

static int parse_header(struct tar_reader *reader, const uint8_t block[TAR_BLOCK], struct st_error **err) {
        uint64_t size;
        int r = check_header(block, err);
        if (r < 0)
                return r;
        if (memcmp(block + MAGIC, "ustar\0", 6) == 0 && block[PREFIX] != 0)
                return st_error_set(err, EBADMSG, "a file in it lies in a directory");
        _cleanup_free_ char *name = header_path(block, false);
        if (!get_size(block + SIZE, &size))
                return st_error_set(err, EBADMSG, "%s in it has no valid size", name);
        return begin_file(reader, name, block[TYPE], size, err);
}

/** Takes "./" and "//" out of a path in place. @return false: it leads elsewhere */
static bool tidy_path(char *path) {
        char *to = path;
        if (*path == '/')
                return false;
        for (const char *from = path; *from;) {
                size_t n = strcspn(from, "/");
                if (n == 2 && memcmp(from, "..", 2) == 0)
                        return false;
                if (n > 0 && !(n == 1 && *from == '.')) {
                        memmove(to, from, n);
                        to += n;
                        if (from[n] == '/')
                                *to++ = '/';
                }
                from += n + (from[n] == '/');
        }
        *to = 0;
        return true;
}

/** Does a file lie where those before it do? Podman's archives have two places. */
static bool is_same_place(const char *directory, const char *path, size_t length) {
        static const char podman[] = PODMAN_DIRECTORY;
        if (strlen(directory) == length && memcmp(directory, path, length) == 0)
                return true;
        return (*directory == 0 && length == strlen(podman) && memcmp(path, podman, length) == 0) ||
               (length == 0 && streq(directory, podman));
}

/** A file of an archive of whoever made it: all of them must lie in one directory. */
static int begin_foreign(struct tar_reader *reader, char *path, uint8_t type, uint64_t size, struct st_error **err) {
        if (!tidy_path(path))
                return st_error_set(err, unfit(reader), "a file in it has the name '%s', which leads elsewhere", path);
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        size_t length = (size_t)(name - path);
        int r = begin_file(reader, name, type, size, err);
        if (r < 0)
                return r;
        if (!reader->directory)
                reader->directory = xstrndup(path, length);
        if (!is_same_place(reader->directory, path, length))
                return st_error_set(err, unfit(reader), "its files lie in several directories: %s and others", path);
        return r;
}

/** Reads a whole block. @return 1, 0 when not a byte is left, -EBADMSG, -errno */
static int read_block(struct tar_reader *reader, uint8_t block[TAR_BLOCK], struct st_error **err) {
        ssize_t n = reader->read(reader->userdata, block, TAR_BLOCK, err);
        if (n <= 0)
                return (int)n;
        return (size_t)n < TAR_BLOCK ? st_error_set(err, EBADMSG, "it is truncated") : 1;
}

static int skip_rest(struct tar_reader *reader, struct st_error **err) {
        uint8_t buffer[16 * TAR_BLOCK];
        while (reader->left > 0) {
                ssize_t n = tar_read_data(reader, buffer, sizeof(buffer), err);
                if (n < 0)
                        return (int)n;
        }
        if (reader->padding == 0)
                return 0;
        ssize_t n = reader->read(reader->userdata, buffer, reader->padding, err);
        if (n < 0)
                return (int)n;
        if ((size_t)n < reader->padding)
                return st_error_set(err, EBADMSG, "it is truncated after %s", reader->name);
        reader->padding = 0;
        return 0;
}

/** Reads the content of an extended header. */
static int read_extension(struct tar_reader *reader, uint8_t type, uint64_t size, struct tar_extension *extension,
                          struct st_error **err) {
        if (size > TAR_EXTENSION_MAX)
                return st_error_set(err, EBADMSG, "a header in it has %" PRIu64 " bytes", size);
        _cleanup_free_ char *text = xmalloc((size_t)size + 1);
        reader->left = size;
        reader->padding = tar_padding(size);
        memcpy(reader->name, "a header", sizeof("a header"));
        ssize_t n = tar_read_data(reader, text, (size_t)size, err);
        if (n < 0)
                return (int)n;
        int r = skip_rest(reader, err);
        return r < 0 ? r : tar_extension_parse(extension, (char)type, text, (size_t)size, err);
}

/** A header of an archive of whoever made it. @return 1: a file begins; 0: go on; -EBADMSG */
static int parse_foreign(struct tar_reader *reader, const uint8_t block[TAR_BLOCK], struct tar_extension *extension,
                         struct st_error **err) {
        uint64_t size;
        uint8_t type = block[TYPE];
        int r = check_header(block, err);
        if (r < 0)
                return r;
        if (!get_size(block + SIZE, &size))
                return st_error_set(err, EBADMSG, "a file in it has no valid size");
        if (type == 'x' || type == 'g' || type == 'L' || type == 'K')
                return read_extension(reader, type, size, extension, err);
        _cleanup_free_ char *path = extension->path ? TAKE_PTR(extension->path) : header_path(block, true);
        if (extension->has_size)
                size = extension->size;
        tar_extension_clear(extension);
        /* The directory itself is of no interest; old tars say it by the name alone. */
        if (type == '5' || (is_file(type) && text_ends_with(path, "/")))
                return size == 0 ? 0 : st_error_set(err, EBADMSG, "the directory %s in it has a content", path);
        return begin_foreign(reader, path, type, size, err);
}

static int next_foreign(struct tar_reader *reader, uint8_t block[TAR_BLOCK], struct st_error **err) {
        _cleanup_(tar_extension_clear) struct tar_extension extension = { 0 };
        for (unsigned n = 0; n < FOREIGN_HEADERS_MAX; n++) {
                int r = parse_foreign(reader, block, &extension, err);
                if (r != 0)
                        return r;
                r = read_block(reader, block, err);
                if (r <= 0)
                        return r < 0 ? r : st_error_set(err, EBADMSG, "it is truncated");
                if (is_zero(block))
                        return 0;
        }
        return st_error_set(err, EBADMSG, "it has too many headers without a file");
}

int tar_next(struct tar_reader *reader, struct st_error **err) {
        uint8_t block[TAR_BLOCK];
        int r = skip_rest(reader, err);
        if (r < 0)
                return r;
        r = read_block(reader, block, err);
        if (r == 0)
                return st_error_set(err, EBADMSG, "it is truncated");
        if (r < 0)
                return r;
        if (!is_zero(block)) {
                r = reader->foreign ? next_foreign(reader, block, err) : parse_header(reader, block, err);
                if (r != 0)
                        return r;
        }
        r = read_block(reader, block, err);
        if (r < 0)
                return r;
        if (r == 0)
                return st_error_set(err, EBADMSG, "it is truncated");
        return is_zero(block) ? 0 : st_error_set(err, EBADMSG, "something follows its end");
}

int tar_end(struct tar_reader *reader, uint8_t *tail, size_t length, struct st_error **err) {
        uint8_t block[TAR_BLOCK];
        bool last = false;
        for (unsigned n = 0;; n++) {
                ssize_t got = reader->read(reader->userdata, block, TAR_BLOCK, err);
                if (got < 0)
                        return (int)got;
                if (got == 0)
                        return !tail || last ? 0 : st_error_set(err, EBADMSG, "its end is missing");
                if (last || n >= END_BLOCKS_MAX)
                        return st_error_set(err, EBADMSG, "something follows its end");
                if (got == TAR_BLOCK && tail) {
                        last = !is_zero(block);
                        memcpy(tail, block + TAR_BLOCK - length, length);
                        memset(block + TAR_BLOCK - length, 0, length);
                }
                if (got < (ssize_t)TAR_BLOCK || !is_zero(block))
                        return st_error_set(err, EBADMSG, "something follows its end");
        }
}

ssize_t tar_read_data(struct tar_reader *reader, void *buffer, size_t n, struct st_error **err) {
        if (n > reader->left)
                n = (size_t)reader->left;
        if (n == 0)
                return 0;
        ssize_t got = reader->read(reader->userdata, buffer, n, err);
        if (got < 0)
                return got;
        reader->left -= (uint64_t)got;
        if ((size_t)got < n)
                return st_error_set(err, EBADMSG, "it is truncated in %s", reader->name);
        return got;
}

void tar_clear(struct tar_reader *reader) {
        free(reader->directory);
        reader->directory = NULL;
}
