/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What image.c, write.c and the formats share. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "image/archive.h"
#include "image/image.h"
#include "image/layout.h"
#include "image/manifest.h"
#include "image/native.h"

/** A file that was replaced or added in memory. */
struct image_override {
        struct manifest_entry entry; /* its name is owned */
        void *data;                  /* owned */
        bool replaced;               /* the manifest has a file of this name */
};

/** What is served of a file of pages of a native image. */
struct image_selection {
        struct manifest_entry entry; /* the name is the manifest's */
        struct native_file file;     /* the runs are owned; n may be 0 */
        bool selected;
};

/** An archive of a checkpoint. */
struct image_part {
        char *path; /* for messages */
        int fd;
};

struct image {
        char *path;
        enum image_format format;
        bool verified;            /* it has a manifest */
        struct manifest manifest; /* without one: names and sizes only */
        int fd;                   /* the directory or the archive */

        /* Of archives. */
        const struct codec *codec; /* NULL: a directory of CRIU's files */
        struct layout layout;
        struct image_part *parts; /* as many as the layout has */
        struct cursor *cursor;    /* of image_read(), where it stopped; NULL: none */
        char **cached;            /* for each entry its content, NULL: not in memory */
        uint64_t n_cached;        /* bytes of them */

        /* Of a native image; its files are the manifest's, in the same order. NULL: it is none. */
        struct native *native;
        struct image_selection *selections; /* of image_select_pages(), one for each entry; NULL: none */

        struct image_override **overrides;
        size_t n_overrides, room_overrides;
};

struct native_encoder;

/** A checkpoint on its way to the disk. */
struct writing {
        struct store *store;
        struct image_write copy; /* of the options, when it was begun early */
        const struct image_write *options;
        int fd;                         /* what stands at the hidden path; -EBADF: nothing yet */
        struct native_encoder *encoder; /* of a native image; holds the parent until all is over */
        struct store_file **files;      /* in the order of the manifest and the archive */
        size_t n_files;
        struct manifest manifest; /* hashes are set by writing_hash() */
        pthread_mutex_t lock;     /* of done and told */
        uint64_t done, told;
        atomic_bool failed; /* in a thread: the others need not go on */
        atomic_bool silent; /* the store is still filled: no progress */
};

/** Between two pieces: counts what was written, tells progress. @return 0 or -ECANCELED with err */
int writing_step(struct writing *writing, uint64_t bytes, struct st_error **err);

/** Hashes a file into the manifest. */
int writing_hash(struct writing *writing, size_t file, struct st_error **err);

/** An error of writing: a full disk gets its own message. @return the negative errno */
int writing_failed(const struct writing *writing, int number, struct st_error **err);

/**
 * Writes everything to options->partial and syncs it, all but its name. The caller removes what is half written.
 *
 * @param fd what stands there already, empty: the directory, or of a single archive the file
 */
int none_write(struct writing *writing, int fd, struct st_error **err);
int archive_write(struct writing *writing, int fd, struct st_error **err);
int native_write(struct writing *writing, int fd, struct st_error **err);

/** Opens a directory: image->fd is it already. */
int none_open(struct image *image, struct st_error **err);
int none_read(struct image *image, const struct manifest_entry *entry, char *data, struct st_error **err);
/** Reads one file of a directory and compares it with the manifest. @return 0; -ECANCELED, -EBADMSG, -errno with err */
int none_verify_file(struct image *image, const struct manifest_entry *entry, int cancel_fd, struct st_error **err);
int none_verify(struct image *image, int cancel_fd, struct st_error **err);

/** Opens a file of a directory: a regular one of the right size, never a link. @return descriptor or -errno with err */
int none_open_file(struct image *image, const struct manifest_entry *entry, struct st_error **err);

/** @return NULL: the file is as in the checkpoint */
const struct image_override *image_find_override(const struct image *image, const char *name);
void image_clear_overrides(struct image *image);

/** What is served of a file of a native image: by image_select_pages(), else all of it. */
const struct native_file *image_native_file(const struct image *image, const struct manifest_entry *entry);
/** The same with the length of that; of any image. */
const struct manifest_entry *image_served_entry(const struct image *image, const struct manifest_entry *entry);
void image_clear_selections(struct image *image);

/** Reads all frames that the image needs, and the page digests, on all cores. @return 0; -EBADMSG; -ECANCELED */
int image_verify_native(struct image *image, int cancel_fd, struct st_error **err);

/** Lists the files of an archive that is not ours into the image, reading it to its end. */
int foreign_open(struct image *image, struct archive *archive, struct st_error **err);

/** Opens an archive of the image, before its first file. The image must outlive it. */
int image_open_part(struct image *image, unsigned part, struct archive **ret, struct st_error **err);

/** Finds a file: *ret is its content in memory, or NULL and image->cursor stands at its beginning. */
int image_seek(struct image *image, const struct manifest_entry *entry, const char **ret, struct st_error **err);

/** "NAME is damaged: WHAT in it" for a file of the image. @return -EBADMSG */
int image_damaged(const struct image *image, const char *name, const char *what, struct st_error **err);
