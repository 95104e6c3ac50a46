/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What `ps` shows of a job: made of what is recorded and of /proc. */

#include "db/db.h"

#define JOB_HALTED "halted"

/** "running", "sleep", "disk-sleep", "stop", "zombie", "idle"; JOB_HALTED when there is no such process any more. */
const char *job_status(const struct db_job *job);

/** The word for a state letter of /proc/PID/stat, proc(5). */
const char *job_status_word(char state);
