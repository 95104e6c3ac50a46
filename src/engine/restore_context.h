/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the built-in adapters of the restore share; plugins see its first member only. */

#include <stdbool.h>

#include <stasis/checkpoint.h>
#include <stasis/restore.h>

#include "base/spawn.h"
#include "base/text.h"
#include "criu/criu.h"
#include "engine/job_stdio.h"
#include "engine/state.h"
#include "image/image.h"

struct restore_context {
        struct st_restore restore; /* first: a struct st_restore of the chain is one of these */
        struct image *image;
        struct saved_state *saved; /* NULL: the checkpoint was not made by stasis */
        struct criu_binary *criu;
        struct spawn_fd *fds; /* descriptors for CRIU; their keys are in the options */
        size_t n_fds, room_fds;
        int *opened; /* descriptors of ours among them, to be closed */
        size_t n_opened, room_opened;
        struct job_stdio stdio;    /* fresh streams in the place of those that led outside the tree */
        struct strv cgroups;       /* directories of the cgroups that it is restored in; none: ours */
        char *unpacked;            /* directory of all files, removed with this; NULL: none. restore_images.h */
        struct restore_lazy *lazy; /* how its memory comes; NULL: CRIU reads it. restore_lazy.h */
        int memory_fd;             /* as in struct engine_started */
        char *memory_record;
        int unpacked_fd; /* the lock on it: partial.h; -EBADF */
};

static inline struct restore_context *restore_context(struct st_restore *restore) {
        return (struct restore_context *)restore;
}

/** Did the caller force this boolean option of CRIU off? */
bool restore_forced_off(const struct st_restore *restore, const char *option);

/** Is the descriptor of that key (criu(8), --inherit-fd) handed to CRIU already? */
bool restore_is_inherited(const struct st_restore *restore, const char *key);

/* The built-in adapters, in the order of the list in restore.c. */
int restore_defaults(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_validate(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_pid_file(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_storage(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_reload_state(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_network(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_preflight(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_memory(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_files(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_mounts(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_inherit_files(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_terminal(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_check_criu(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_cgroup(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_hooks(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_continue(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
int restore_criu(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
