/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include <daemon/process.pb-c.h>

/**
 * Does /proc/locks (proc_locks(5)) name a lock or lease on a file that the tree has open? Whether a process of the tree
 * holds it, or one outside: CRIU tells that apart, once it is told to look.
 *
 * @param root with open files, and children for a tree (process_state_read(), PROCESS_INSPECT)
 */
bool process_has_file_locks(const Daemon__ProcessState *root);
