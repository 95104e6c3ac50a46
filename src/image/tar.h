/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * tar, as little of it as a checkpoint needs: the ustar interchange format of POSIX.1-2017 (pax), regular files with
 * plain names of at most 100 bytes; a size of 8 GiB and more in base 256, as GNU tar writes it.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

#define TAR_BLOCK ((size_t)512)
#define TAR_NAME_MAX ((size_t)100)

/** How many bytes of zeros follow a file's bytes. */
static inline size_t tar_padding(uint64_t size) {
        return (size_t)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

/** Makes the header of a regular file, mode 0600. @return 0; -ENAMETOOLONG */
int tar_make_header(uint8_t block[TAR_BLOCK], const char *name, uint64_t size, uid_t uid, gid_t gid, int64_t mtime);

/**
 * Reads exactly n bytes of the archive.
 *
 * @return n; fewer at the archive's end; a negative errno with err
 */
typedef ssize_t (*tar_read)(void *userdata, void *buffer, size_t n, struct st_error **err);

/** An archive read in order. Initialise with { .read = …, .userdata = … }. */
struct tar_reader {
        tar_read read;
        void *userdata;
        uint64_t left;  /* bytes of the entry not read yet */
        size_t padding; /* after them */
        char name[TAR_NAME_MAX + 1];
        uint64_t size;
};

/**
 * Goes to the next entry (its name and size are in the reader), skipping what is left of the last one.
 *
 * @return 1; 0: the archive's end, after which nothing follows; -EBADMSG: not valid, or something that does not belong
 * into a checkpoint: a directory, a link, a name with a slash
 */
int tar_next(struct tar_reader *reader, struct st_error **err);

/** Reads up to n bytes of the entry. @return how many, 0 at the entry's end; -EBADMSG: truncated; -errno */
ssize_t tar_read_data(struct tar_reader *reader, void *buffer, size_t n, struct st_error **err);
