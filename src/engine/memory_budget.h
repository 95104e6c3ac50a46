/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <stasis/option.h>

/**
 * Bytes of memory that a stream may use: Checkpoint.StreamMemoryLimit, else half of MemAvailable (proc(5)); at most
 * half of what the limit of our cgroup leaves.
 */
uint64_t memory_budget(const struct st_arguments *config);

/** What the limits of the cgroup that we are in, and of those above it, leave, in bytes; UINT64_MAX: there are none. */
uint64_t memory_cgroup_room(void);
