/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A call that must not be abandoned, on a thread of its own: while CRIU is at work it is to come to its end, whatever
 * happens to the operation. The caller meanwhile watches for the operation's cancellation.
 */

#include <stdbool.h>

#include <stasis/error.h>
#include <stasis/operation.h>

struct docker_firm;

/** Starts call(userdata, err) on a thread; userdata is the thread's until docker_firm_end(). */
int docker_firm_start(int (*call)(void *userdata, struct st_error **err), void *userdata, struct docker_firm **ret,
                      struct st_error **err);

/**
 * Waits until it has ended, at most so long.
 *
 * @param milliseconds negative: no limit
 * @param operation ends the wait when it is cancelled; NULL: nothing does
 * @return 1: it has ended; 0: not yet; -ECANCELED, -ETIMEDOUT with the reason: the operation is cancelled
 */
int docker_firm_wait(struct docker_firm *firm, int milliseconds, struct st_operation *operation, struct st_error **err);

/** Waits until it has ended, frees it. @return what the call returned, with its error */
int docker_firm_end(struct docker_firm *firm, struct st_error **err);
