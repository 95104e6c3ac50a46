/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The processes of a tree: a root and its descendants. */

#include <stdbool.h>
#include <stddef.h>

#include <stasis/error.h>

#include "process/analysis.h"

/** Zero-initialise; free with tree_clear(). */
struct tree {
        struct process_task *tasks; /* parents before their children; the root first */
        size_t n, room;
        bool kernel_thread; /* the root is one of the kernel's */
};

/**
 * Reads a process and, if asked for, all its descendants. `tracer` and `rss` of the tasks stay 0: they are of
 * /proc/PID/status.
 *
 * Errors: -ESRCH: no such process, or the number is a thread's. -E2BIG: more than 65,536 processes.
 */
int tree_read(pid_t root, bool descendants, struct tree *ret, struct st_error **err);

/** Frees a task's texts. */
void tree_task_clear(struct process_task *task);
void tree_clear(struct tree *tree);
#define _cleanup_tree_ __attribute__((cleanup(tree_clear)))

/** Has the task ended, so that nothing but its exit code is left? */
bool tree_task_is_dead(const struct process_task *task);

/**
 * Does one of the tree wait for a child that it made by vfork(2) and that has not started its program yet? It cannot be
 * stopped then. Processes that share memory for good look the same.
 *
 * @return the parent's PID; 0: nobody does
 */
pid_t tree_find_vfork(const struct process_task *tasks, size_t n);
