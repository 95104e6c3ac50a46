/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include <daemon/process.pb-c.h>

/**
 * Is there a lock or lease on a file that the tree has open? With very many files, also when a process outside the tree
 * holds it: CRIU tells that apart, once it is told to look.
 *
 * @param root with open files, and children for a tree (process_state_read(), PROCESS_INSPECT)
 */
bool process_has_file_locks(const Daemon__ProcessState *root);
