/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The upper directory of an overlay (overlay2's `<id>/diff`): what a container changed in its root filesystem, saved
 * as a tar archive and put back, bit for bit: content, holes, hard links, FIFOs, sockets, devices and with them
 * overlayfs's whiteouts (0:0), owners as numbers, modes, times to the nanosecond, ACLs, capabilities, inode flags,
 * user.* and trusted.* attributes and with them overlayfs's own (opaque, redirect, metacopy …), names of any bytes,
 * paths of any depth.
 *
 * Not kept: SELinux's, IMA's and other security.* attributes, which belong to a machine or a container; overlayfs's
 * notes about this very mount (uuid, nlink, upper, and the origin of the root).
 *
 * When to call: layer_save() while the container is paused or stopped: the overlay may be mounted, for its writes
 * are in the page cache of the upper directory's own inodes. layer_load() and layer_replace() only while it is not
 * mounted (the container is stopped): overlayfs does not expect changes below it. That is not checked here; an
 * engine knows it.
 *
 * Needs CAP_SYS_ADMIN in the first user namespace (trusted.*), and /proc. No global state: safe from several
 * threads. All descriptors stay the caller's.
 *
 * The archive is pax (POSIX.1-2001) as libarchive writes it, with `hdrcharset=BINARY`; attributes are under the keys
 * LIBARCHIVE.xattr.*, which can have any name (SCHILY.xattr.* cannot: a "=" in a name ends it). A socket is stored
 * as a FIFO with the attribute "stasis.type". It is not compressed and has no checksum of its own: whoever stores it
 * sees to both.
 *
 * Loading trusts nothing in it: nothing is written outside of the directory, no symbolic link is followed, nothing
 * that exists is replaced, and what is kept in memory is bounded. It creates devices and set-user-ID programs, as it
 * must: where the archive may be from somebody else, the directory is to be one that only root can enter, as an
 * engine's are.
 */

#include <stdbool.h>
#include <stdint.h>

#include <stasis/error.h>

/** The names of directories that layer_replace() makes beside the upper one begin so. */
#define LAYER_ASIDE_PREFIX ".stasis-layer-"
#define LAYER_NAME_MAX 256

struct layer_io {
        int cancel_fd; /* readable or hung up: end with -ECANCELED; -1: none */
        /*
         * Told now and then, on the calling thread: how many bytes of files' content went through so far. May be
         * NULL.
         */
        void (*progress)(void *userdata, uint64_t bytes);
        void *userdata;
};

struct layer_stats {
        uint64_t entries; /* with the upper directory itself */
        uint64_t bytes;   /* content of files, without holes */
};

/**
 * Writes the archive to tar_fd (a file, pipe or socket), from its present offset.
 *
 * @param io may be NULL: not cancelled, nobody told
 * @param stats may be NULL
 * @return -EBUSY: something changed while it was read
 */
int layer_save(int upper_fd, int tar_fd, const struct layer_io *io, struct layer_stats *stats, struct st_error **err);

/**
 * Unpacks the archive that is read from tar_fd into an empty directory; owner, mode, times and attributes of the
 * directory itself become the saved ones. On failure what was unpacked stays: see layer_replace().
 *
 * @return -EBADMSG: damaged, truncated or none of ours; -EEXIST: the directory is not empty
 */
int layer_load(int tar_fd, int upper_fd, const struct layer_io *io, struct layer_stats *stats, struct st_error **err);

/**
 * Puts what the archive has into the place of the directory `upper` in `home_fd`, all or nothing: it is unpacked
 * beside it, and then the two are exchanged in one step. Nothing is lost: what was there is kept under the name that
 * is returned, until layer_replace_commit() removes it, layer_replace_keep() gives it a lasting name, or
 * layer_replace_undo() brings it back. On failure all is as it was.
 *
 * @param upper a name ("diff"), no path
 */
int layer_replace(int home_fd, const char *upper, int tar_fd, const struct layer_io *io, struct layer_stats *stats,
                  char ret_aside[static LAYER_NAME_MAX], struct st_error **err);

/** Brings back what was there, and removes what was unpacked. */
int layer_replace_undo(int home_fd, const char *upper, const char *aside, struct st_error **err);

/** Syncs what was unpacked, if something else was there before, and removes that. */
int layer_replace_commit(int home_fd, const char *upper, const char *aside, struct st_error **err);

/**
 * Keeps what was there, as <upper>.stasis-kept-TIME. By a policy, which may restore for weeks, it is
 * <upper>.stasis-kept-restart-TIME, and only the newest of these stays.
 *
 * @return 0 or -errno: then it is where it was
 */
int layer_replace_keep(int home_fd, const char *upper, const char *aside, bool by_policy,
                       char ret_name[static LAYER_NAME_MAX]);

/** Removes a directory with all in it, of any depth; follows nothing, and stays on its file system. Absent: fine. */
int layer_remove(int parent_fd, const char *name, struct st_error **err);
