/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the built-in adapters of the dump share; plugins see its first member only. */

#include <stdbool.h>

#include <stasis/checkpoint.h>
#include <stasis/dump.h>

#include "base/text.h"
#include "criu/criu.h"
#include "engine/tree_lock.h"
#include "image/image.h"
#include "process/analysis.h"

struct dump_context {
        struct st_dump dump; /* first: a struct st_dump of the chain is one of these */
        enum image_format format;
        enum native_codec codec;           /* of a native image */
        const char *parent;                /* a native image, opened and held; NULL: none. dump_parent.c */
        unsigned streams;                  /* 0, 1: one file */
        bool grab;                         /* copy the memory ourselves, where that can be: dump_grab.h */
        bool named_by_default;             /* the name was ours to choose: then it is made unique */
        char *partial;                     /* hidden path of the checkpoint while it is written */
        bool leave_stopped;                /* leave the target stopped (SIGSTOP) */
        char *images;                      /* where a handler puts its files: dump_images.c; NULL: nowhere yet */
        int images_fd;                     /* the lock on it: partial.h; -EBADF */
        bool committed;                    /* the checkpoint of a handler's files exists */
        struct writeback *writeback;       /* sends them to the disk while the handler works; NULL: nobody does */
        struct commit_hook *commit_hook;   /* commits when CRIU asks; NULL: none. dump_commit_hook.c */
        struct guard *guard;               /* thaws the target should we die; NULL: none. guard.h */
        bool ghost_limit_given;            /* the caller set it: it is not raised */
        struct tree_lock lock;             /* nobody else dumps, freezes or unfreezes it meanwhile */
        struct process_analysis *analysis; /* of the tree */
        struct strv terminals;             /* keys of external terminals (criu(8), --external): dump_terminal.c */
        char *state;                       /* what IMAGE_STATE will hold, JSON */
        struct criu_binary *criu;
        struct hooks *hooks;      /* of the user; NULL: none. hooks.h */
        struct dump_files *files; /* what is to be recorded of open files while they cannot change; dump_files.h */
};

static inline struct dump_context *dump_context(struct st_dump *dump) {
        return (struct dump_context *)dump;
}

/** Did the caller force this boolean option of CRIU off? (DumpReq.Off; `false` in criu_opts means "not set") */
bool dump_forced_off(const struct st_dump *dump, const char *option);

/* The built-in adapters, in the order of the list in dump.c. */
int dump_defaults(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_validate(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_storage(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_parent(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_find_pid(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_lock_tree(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_lazy(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_analyse(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_orphans(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_terminal(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_fill_state(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_preflight(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_external_files(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_file_locks(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_network(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_save_state(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_check_criu(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_hooks(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_keep_frozen(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_cgroups(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_files(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int dump_images(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
/** Removes what a handler made, unless it is the checkpoint. */
void dump_images_clear(struct dump_context *context);
int dump_criu(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
