/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A place in a tree of directories, of any depth, with one descriptor: in by name, out by "..". Each step is
 * checked: no symbolic link, no other file system, and out only to where one came from.
 */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include <stasis/error.h>

/* Longer paths do not fit into the header of a pax archive that libarchive reads (1 MiB, with attributes). */
#define LAYER_PATH_MAX ((size_t)256 << 10)

struct layer_level {
        dev_t dev;
        ino_t ino;
        size_t length; /* of the path, here */
        /* What the walker's user keeps for each directory; the texts are freed with the level. */
        char **names;
        size_t n_names, next;
        struct timespec times[2];
        unsigned flags;
        void *acl;
        size_t acl_size;
};

struct layer_walk {
        int root_fd; /* of our caller */
        int fd;      /* the present directory */
        char *path;  /* its path, "" for the root; then room for a name */
        size_t length;
        struct layer_level *levels; /* [0] is the root */
        size_t depth, room;
};

/** Begins at root_fd, which stays the caller's. @param walk to be ended with layer_walk_end(), also on failure */
int layer_walk_begin(struct layer_walk *walk, int root_fd, struct st_error **err);
void layer_walk_end(struct layer_walk *walk);

int layer_walk_enter(struct layer_walk *walk, const char *name, struct st_error **err);
int layer_walk_leave(struct layer_walk *walk, struct st_error **err);

static inline struct layer_level *layer_walk_level(struct layer_walk *walk) {
        return &walk->levels[walk->depth];
}

/** Fills the present level's names, sorted by their bytes. */
int layer_walk_list(struct layer_walk *walk, struct st_error **err);

/** @return the path of a name in the present directory, valid until the next call; NULL: too long or no memory */
const char *layer_walk_path(struct layer_walk *walk, const char *name);

/** For a walk that is not begun yet. */
#define LAYER_WALK_NONE \
        { .root_fd = -EBADF, .fd = -EBADF }
