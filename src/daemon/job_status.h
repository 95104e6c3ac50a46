/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What `ps` shows of a job: made of what is recorded and of /proc. */

#include "db/db.h"

#define JOB_HALTED "halted"

/** A word of process_state_word(); JOB_HALTED when there is no such process any more. */
const char *job_status(const struct db_job *job);
