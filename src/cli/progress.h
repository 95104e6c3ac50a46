/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A line of progress at the bottom of a terminal. Shown only when stderr is a terminal and the operation takes longer
 * than half a second, redrawn at most ten times a second, erased before any other line.
 */

#include <stdint.h>

/** From now on progress is shown, and log lines take care of it. Before any thread of the operation. */
void progress_begin(void);

/** Any thread. @param total 0: unknown */
void progress_update(const char *phase, uint64_t done, uint64_t total);

/** Makes room for a line on stderr. Any thread; no-op when nothing is shown. */
void progress_erase(void);

/** Erases the line for good. After the threads of the operation. */
void progress_end(void);

/** The text of the line, at most `width` columns: "writing  [####------]  42%  34.1 MiB of 80.0 MiB"; malloc'ed. */
char *progress_text(const char *phase, uint64_t done, uint64_t total, int width);
