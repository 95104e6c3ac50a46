/* SPDX-License-Identifier: Apache-2.0 */
#include "image/tar.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/path.h"

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
#define SIZE_LIMIT (UINT64_C(1) << 60)
/** More blocks of zeros than any writer's block size makes. */
#define END_BLOCKS_MAX 4096

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
                return get_octal(field, SIZE_LENGTH, ret) && *ret <= SIZE_LIMIT;
        uint64_t value = 0;
        for (size_t i = 1; i < SIZE_LENGTH; i++) {
                if (value >> 56 != 0)
                        return false;
                value = value << 8 | field[i];
        }
        *ret = value;
        return value <= SIZE_LIMIT;
}

static bool is_zero(const uint8_t block[TAR_BLOCK]) {
        return block[0] == 0 && memcmp(block, block + 1, TAR_BLOCK - 1) == 0;
}

static int parse_header(struct tar_reader *reader, const uint8_t block[TAR_BLOCK], struct st_error **err) {
        uint64_t sum;
        if (!get_octal(block + CHECKSUM, 8, &sum) || sum != checksum(block))
                return st_error_set(err, EBADMSG, "the header of a file in it is not valid");
        if (memcmp(block + MAGIC, "ustar", 5) != 0)
                return st_error_set(err, EBADMSG, "a file in it is not in the ustar format");
        size_t length = strnlen((const char *)block + NAME, TAR_NAME_MAX);
        memcpy(reader->name, block + NAME, length);
        reader->name[length] = 0;
        if (memcmp(block + MAGIC, "ustar\0", 6) == 0 && block[PREFIX] != 0)
                return st_error_set(err, EBADMSG, "a file in it lies in a directory");
        if (!path_is_name(reader->name))
                return st_error_set(err, EBADMSG, "a file in it has the name '%s'", reader->name);
        if (block[TYPE] != '0' && block[TYPE] != 0)
                return st_error_set(err, EBADMSG, "%s in it is not a regular file", reader->name);
        if (!get_size(block + SIZE, &reader->size))
                return st_error_set(err, EBADMSG, "%s in it has no valid size", reader->name);
        reader->left = reader->size;
        reader->padding = tar_padding(reader->size);
        return 1;
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
        if (!is_zero(block))
                return parse_header(reader, block, err);
        /* Two blocks of zeros, then zeros up to whatever the writer's block size was. */
        for (unsigned n = 1;; n++) {
                r = read_block(reader, block, err);
                if (r < 0)
                        return r;
                if (r == 0)
                        return n >= 2 ? 0 : st_error_set(err, EBADMSG, "it is truncated");
                if (n >= END_BLOCKS_MAX || !is_zero(block))
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
