/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Work on many items of one kind, by several threads: reading /proc costs the kernel's time, not waiting. */

#include <stddef.h>

/** Works on the items [begin, end). Called by several threads at once, each with other items. */
typedef void (*parallel_fn)(size_t begin, size_t end, void *userdata);

/**
 * Calls `call` for all of n items, `step` of them at a time, here and in up to one thread for each processor; returns
 * when all is done. Where threads cannot be had, everything is done here.
 */
void parallel_each(size_t n, size_t step, parallel_fn call, void *userdata);
