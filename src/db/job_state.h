/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The states of a job and the ways between them, the one place where they are. A state is what is recorded; "running",
 * "sleep" or "halted", as `ps` shows it, is made of it and of /proc (src/daemon/job_status.h).
 */

#include <stdbool.h>

#include <stasis/v1/stasis.pb-c.h>

/** May a job go from one state to the other? Staying in one is not a transition. */
bool job_state_may_become(Stasis__V1__JobState from, Stasis__V1__JobState to);

/** Is there, or is there about to be, a process? */
bool job_state_is_alive(Stasis__V1__JobState state);

/** "running"; never NULL */
const char *job_state_name(Stasis__V1__JobState state);
