/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Native images that refer to each other: who needs whom, and locks (flock(2)) that keep an image from going away
 * under who is about to refer to it. A child's writer holds a shared lock on each of its ancestors until the child
 * has its name; who removes an image, or puts another file in its place, takes the exclusive one and looks for
 * children after that.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

#include "base/text.h"
#include "image/native.h"

/** Longest wait for a lock, milliseconds. */
#define NATIVE_LOCK_MS 60000

/**
 * Locks the image at a path, whichever file has that name by then.
 *
 * @param cancel_fd readable: -ECANCELED; -EBADF: none
 * @return a descriptor that holds the lock until it is closed; -EBUSY: somebody else kept it for NATIVE_LOCK_MS;
 * -ENOENT; -errno
 */
int native_lock(const char *path, bool exclusive, int cancel_fd, struct st_error **err);

/**
 * Holds an opened image and all its ancestors, by shared locks, for as long as it is open.
 *
 * @return 0; -ESTALE: one of them was removed or replaced since it was opened: open it again; -EBUSY, -ECANCELED
 */
int native_hold(const struct native *native, int cancel_fd, struct st_error **err);

/** An image on disk, seen from who may refer to it. */
struct native_place {
        const char *path;
        char *const *others; /* paths of images in other directories that may refer to it */
        size_t n_others;
};

/**
 * Finds the images that have the one with this ID among their ancestors: in the directory of the place, and of the
 * others that it names. Files that cannot be read or are damaged are passed over: they cannot be told to depend on
 * anything.
 *
 * @param ret their paths are added, those with the fewest ancestors first: folded in this order the later ones find
 * in the earlier ones what these took over
 */
int native_dependents(const struct native_place *place, const uint8_t id[NATIVE_ID], struct strv *ret,
                      struct st_error **err);
