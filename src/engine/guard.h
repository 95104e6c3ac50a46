/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A guard is a process that waits for the end of this one. When that comes before guard_end(), by a crash or kill -9,
 * it unfreezes what this one froze, by the unfreeze handler of the request's type. It is this program again, with the
 * word "guard".
 */

#include <daemon/daemon.pb-c.h>
#include <stasis/error.h>
#include <stasis/operation.h>

struct guard;

/** Starts it, for a request of a dump whose target is about to be frozen. */
int guard_start(struct st_operation *operation, const Daemon__DumpReq *req, struct guard **ret, struct st_error **err);

/** All is well: it ends. NULL is fine. @return NULL */
struct guard *guard_end(struct guard *guard);

/** The guard itself: `stasis guard`. @return exit code */
int guard_main(void);
