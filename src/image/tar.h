/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * tar, as little of it as a checkpoint needs: the ustar interchange format of POSIX.1-2017 (pax), regular files with
 * plain names of at most 100 bytes; a size of 8 GiB and more in base 256, as GNU tar writes it.
 *
 * What other programs packed is read, too, when asked for (foreign): the files of one directory, with that directory in
 * their names or not, or those of Podman's two (podman.h), with pax and GNU headers. Whatever could do harm is refused:
 * names that lead elsewhere, links, devices, sparse files, headers without bounds.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

#define TAR_BLOCK ((size_t)512)
#define TAR_NAME_MAX ((size_t)100)
/** Of a path in a foreign archive, and of the headers that carry it. */
#define TAR_PATH_MAX ((size_t)4096)
#define TAR_EXTENSION_MAX ((size_t)64 << 10)

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

/** An archive read in order. Initialise with { .read = …, .userdata = … }, end with tar_clear(). */
struct tar_reader {
        tar_read read;
        void *userdata;
        bool foreign;   /* another program may have written it */
        uint64_t left;  /* bytes of the entry not read yet */
        size_t padding; /* after them */
        char name[256]; /* without its directory */
        uint64_t size;
        char *directory; /* foreign: where its files lie, "" or "a/b/"; NULL: no file has come */
};

/**
 * Goes to the next entry (its name and size are in the reader), skipping what is left of the last one.
 *
 * @return 1; 0: the two blocks of zeros at its end, see tar_end(); -EBADMSG: not valid; for something that does not
 * belong into a checkpoint, a link or a name that leads elsewhere, the same, but -EINVAL of a foreign archive
 */
int tar_next(struct tar_reader *reader, struct st_error **err);

/** Reads up to n bytes of the entry. @return how many, 0 at the entry's end; -EBADMSG: truncated; -errno */
ssize_t tar_read_data(struct tar_reader *reader, void *buffer, size_t n, struct st_error **err);

/**
 * After tar_next() said 0: reads on to the archive's very end. Nothing but zeros may come, as many as a writer's block
 * size may ask for.
 *
 * @param tail may be NULL; else: the last `length` bytes of the archive may be anything, they are put there
 * @return 0; -EBADMSG: something follows; -errno
 */
int tar_end(struct tar_reader *reader, uint8_t *tail, size_t length, struct st_error **err);

void tar_clear(struct tar_reader *reader);

/** What extended headers say of the next file (tar_extension.c). Zero-initialise; free with tar_extension_clear(). */
struct tar_extension {
        char *path; /* NULL: nothing */
        bool has_size;
        uint64_t size;
};

/**
 * Takes in the content of an extended header.
 *
 * @param type of the header: 'x', 'g' (pax), 'L' (GNU's long name)
 * @return 0; -EBADMSG: not valid; -EINVAL: of a sparse file
 */
int tar_extension_parse(struct tar_extension *extension, char type, const char *text, size_t size,
                        struct st_error **err);
void tar_extension_clear(struct tar_extension *extension);

/** No file of a checkpoint is longer, bytes. */
#define TAR_SIZE_MAX (UINT64_C(1) << 60)
