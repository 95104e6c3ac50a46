/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the adapters of freeze (freeze.c) and unfreeze (unfreeze.c) share. */

#include <stasis/dump.h>

#include "engine/frozen.h"
#include "process/freezer.h"
#include "process/tree.h"

/** Nothing that can be frozen needs longer than this. */
#define FREEZE_TIMEOUT_MS 10000

struct freeze_context {
        struct st_dump dump; /* first: a struct st_dump of these chains is one of these */
        const char *verb;    /* "freeze" */
        struct tree tree;    /* empty when the root is gone (unfreeze) */
        struct frozen_list records;
        struct freezer_hierarchy freezers[2]; /* both versions */
};

static inline struct freeze_context *freeze_context(struct st_dump *dump) {
        return (struct freeze_context *)dump;
}

/** Fills the answer's state, when the root lives. */
void freeze_fill_state(struct st_dump *dump);

/** May the caller do that to these processes? Root may; others only to their own. -EPERM with err. */
int freeze_check_access(const struct st_operation *operation, const struct stopped *tasks, struct st_error **err);
int freeze_check_tree_access(const struct st_operation *operation, const struct tree *tree, struct st_error **err);

/**
 * Is everybody in a cgroup one of the tree?
 *
 * @param ret_other somebody who is not; 0: not visible from here; may be NULL
 * @return 1, 0, or -errno
 */
int freeze_cgroup_is_of_tree(const char *directory, const struct tree *tree, pid_t *ret_other);

/** The steps of unfreeze that are its own. */
int unfreeze_process(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
