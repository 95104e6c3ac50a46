/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The regular files that a checkpoint's processes have open or mapped, by path, from CRIU's own images: files.img,
 * remap-fpath.img and the mm-PID.img. The bytes may come from anywhere; they are bounded by the reader
 * (criu/images.h).
 *
 * Left out: files without a name (CRIU keeps them itself, as ghost files or links), files of a mount namespace of the
 * target's own (their paths lead elsewhere; counted), files that another process supplies, and /proc.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

struct open_file {
        char *path;
        bool has_size; /* CRIU compares the size */
        uint64_t size; /* bytes at the dump */
        uint32_t mode; /* st_mode; CRIU compares it */

        bool writable;     /* a descriptor can write, or a shared mapping can */
        bool mapped;       /* by a shared mapping that can write: it changes without a trace */
        bool append;       /* every descriptor that can write appends (O_APPEND) */
        bool at_end;       /* every descriptor that can write appends, or stood at the end: it wrote on there */
        bool executed;     /* mapped as code */
        uint64_t position; /* the largest of its descriptors' */
        uint64_t map_end;  /* how far mappings reach into it, bytes */
};

/** Zero-initialise; free with open_files_clear(). */
struct open_files {
        struct open_file *items; /* sorted by path, each path once, after open_files_finish() */
        size_t n, room;
        size_t elsewhere; /* files in a mount namespace of the target's own */

        struct open_file_id {
                uint32_t id; /* CRIU's */
                size_t index;
        } * ids; /* sorted by id once the maps are read */
        size_t n_ids, room_ids;
        uint32_t *remapped; /* IDs of files without a name, sorted */
        size_t n_remapped, room_remapped;
        bool has_fanotify; /* a process listens by fanotify: while it is frozen, opening a file could wait for it */
};

/**
 * Adds CRIU's images: first remap-fpath.img, then files.img, then each mm-PID.img, as far as they are there.
 *
 * @return 0; -EBADMSG and others of criu_images_each() with err
 */
int open_files_add_remaps(struct open_files *files, const void *data, size_t size, struct st_error **err);
int open_files_add(struct open_files *files, const void *data, size_t size, struct st_error **err);
int open_files_add_maps(struct open_files *files, const char *name, const void *data, size_t size,
                        struct st_error **err);

/** Makes one of all that have the same path. After the last open_files_add_maps(). */
void open_files_finish(struct open_files *files);

/** @return NULL: no such file */
const struct open_file *open_files_find(const struct open_files *files, const char *path);

void open_files_clear(struct open_files *files);
#define _cleanup_open_files_ __attribute__((cleanup(open_files_clear)))

/**
 * A files.img that does not have CRIU compare the size and mode of the files that `accept` names: they are taken as
 * they are.
 *
 * @param ret malloc'ed
 */
int open_files_relax(const void *data, size_t size, bool (*accept)(const char *path, void *userdata), void *userdata,
                     void **ret, size_t *ret_size, struct st_error **err);
