/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Ctrl-C (SIGINT), SIGTERM and SIGHUP while an operation runs: the first one asks it to cancel, the second one ends the
 * program at once.
 */

#include <stdbool.h>

#include <stasis/error.h>

/** Begins to watch. Before any thread. @return 0 or -errno with err */
int interrupt_watch(struct st_error **err);

/** @return a descriptor that polls readable after the first signal (never read from it); -EBADF when not watching */
int interrupt_fd(void);

/** After interrupt_watch(): did a shell start us in the background, where a terminal's SIGINT is not for us? */
bool interrupt_in_background(void);

/** @return how many signals came */
int interrupt_count(void);
