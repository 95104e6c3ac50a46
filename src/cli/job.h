/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the commands about jobs have in common: asking the daemon for jobs, and how jobs are told of. */

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include <stasis/error.h>
#include <stasis/v1/stasis.pb-c.h>

struct cli;

/** Asks for jobs. @param jid NULL: all. @param ret the caller's */
int job_ask(struct cli *cli, const char *jid, bool history, Stasis__V1__ListJobsResp **ret, struct st_error **err);

/**
 * Asks for one job.
 *
 * @param ret holds that one as its first; the caller's
 * @return 0; -ENOENT with err when there is none of that name
 */
int job_ask_one(struct cli *cli, const char *jid, bool history, Stasis__V1__ListJobsResp **ret, struct st_error **err);

/** A job that somebody names by JID or by PID, also a process that is no job. `jid` NULL: none is known; malloc'ed. */
int job_resolve(struct cli *cli, const char *word, char **ret_jid, uint32_t *ret_pid, struct st_error **err);

/** "exited with code 3", "killed by SIGKILL"; of other states their name; malloc'ed */
char *job_state_text(Stasis__V1__JobState state, int status);

/** "2026-01-31 12:00:00"; malloc'ed. NULL for 0: never */
char *job_time_text(int64_t milliseconds);

/** As JSON: new reference. */
json_t *job_json(const Stasis__V1__JobInfo *job);
