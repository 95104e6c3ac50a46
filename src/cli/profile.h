/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How long the steps of an operation took: shown for --profiling, written for --profiling-path. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stasis/option.h>
#include <stasis/v1/stasis.pb-c.h>

/** Does anybody want it? */
bool profile_wanted(const struct st_arguments *arguments);

/** Adds a copy of a span; they may come in any order. @param profile on the heap */
void profile_add(Stasis__V1__Profile *profile, const Stasis__V1__Span *span);

/** Prints the table on stderr and writes the file, as configured. A file that cannot be written is a warning. */
void profile_show(Stasis__V1__Profile *profile, const struct st_arguments *arguments);

/** @param precision "auto", "s", "ms", "us" or "ns" @return "12.3 ms"; malloc'ed */
char *profile_duration(uint64_t nanoseconds, const char *precision);
