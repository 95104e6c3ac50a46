/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The user's terminal while a job has it: raw, and always given back as it was. One terminal at a time. */

#include <stdbool.h>

#include <daemon/daemon.pb-c.h>
#include <stasis/error.h>

/**
 * Makes a terminal raw: every key comes as it is. It is given back by terminal_restore(), when the program ends by
 * exit(3), and when it crashes. Again for one that is raw already: after a stop, in which a shell may have changed it.
 *
 * @return 0 or -errno with err
 */
int terminal_make_raw(int fd, struct st_error **err);

/** Gives it back. Does nothing when there is nothing to give back. Async-signal-safe. */
void terminal_restore(void);

/** Are our input and our output both on a terminal? */
bool terminal_is_ours(void);

/** The size of a terminal as a message on the heap; NULL: fd is none. */
Daemon__TerminalSize *terminal_size(int fd);
