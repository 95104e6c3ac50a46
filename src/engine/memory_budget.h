/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <stasis/option.h>

/**
 * Bytes of memory that a stream may use: Checkpoint.StreamMemoryLimit, else half of what is available (proc(5),
 * MemAvailable).
 */
uint64_t memory_budget(const struct st_arguments *config);
