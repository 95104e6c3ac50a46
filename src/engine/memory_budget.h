/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <stasis/option.h>

/** Bytes of memory that a stream may use: Checkpoint.StreamMemoryLimit, else half of MemAvailable (proc(5)). */
uint64_t memory_budget(const struct st_arguments *config);
