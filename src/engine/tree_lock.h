/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Freezing, unfreezing and dumping one tree exclude each other, and a second dump waits for the first: whoever does it
 * holds <run dir>/frozen/PID.lock of the tree's root alone, and shares those of all processes above it. So whoever
 * wants a tree waits for everybody who is at work on a part of it, while neighbours do not wait for each other. All
 * take them from below upwards, and so never wait for each other in a circle. The file holds what its holder does.
 *
 * The kernel gives a lock back when its holder dies (flock(2)).
 */

#include <stddef.h>
#include <sys/types.h>

#include <stasis/operation.h>

struct tree_lock {
        struct tree_lock_held {
                pid_t pid;
                int fd;
        } * held;
        size_t n, room;
};

/**
 * Waits for the tree below a process. What it waits for is logged, and reported as progress.
 *
 * @param verb what is done with it: "dump"
 * @param lock empty; to be released, also after a failure
 * @return 0; -ECANCELED, -ETIMEDOUT or another -errno with err
 */
int tree_lock_take(struct st_operation *operation, const char *verb, pid_t pid, struct tree_lock *lock,
                   struct st_error **err);

/** Shares one lock more, of a process that need not live: nobody does then with its tree what needs the lock alone. */
int tree_lock_share(struct st_operation *operation, const char *verb, pid_t pid, struct tree_lock *lock,
                    struct st_error **err);

/** Gives back what is held; the last holder of a file removes it. */
void tree_lock_release(struct tree_lock *lock);
#define _cleanup_tree_lock_ __attribute__((cleanup(tree_lock_release)))
