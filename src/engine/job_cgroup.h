/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The cgroup of a job: OURS/stasis-jobs/JID, in the hierarchy by which it can be frozen (src/process/freezer.h): that
 * of version 1's freezer where it is mounted, else version 2's. OURS is the cgroup of the calling process, which for
 * the daemon and its workers is the same. With another run directory than the usual one the last part is JID@HASH, of
 * the path of that directory: two daemons may have jobs of the same name. It holds the job's processes and nobody else,
 * so `freeze` can use it.
 */

#include <stdbool.h>
#include <sys/types.h>

#include <stasis/error.h>

#include "base/text.h"

/**
 * Makes the job's cgroup, or finds it from before.
 *
 * @param jid checked by jid_check(): it becomes the name of a directory
 * @param ret its directory is appended, one for each hierarchy in use
 * @return 0; -ENOENT: no hierarchy is mounted here; another -errno; with err
 */
int job_cgroup_make(const char *jid, struct strv *ret, struct st_error **err);

/** Lets it run again, if there is one: of a SIGKILL nobody dies whom version 1 has frozen. */
void job_cgroup_thaw(const char *jid);

/**
 * SIGKILL to all in it that began at that time (milliseconds since 1970) or later; not while CRIU is there, which ends
 * what it has half restored by itself.
 */
void job_cgroup_kill(const char *jid, int64_t since_ms);

/** Removes it. @return 0, also when there is none; -EBUSY: somebody is in it; another -errno */
int job_cgroup_remove(const char *jid);

/**
 * Is a process in the same cgroups as we, but for one of a job below ours? Then a restore has none to bring back; nor
 * for one that has ended.
 */
bool job_cgroup_is_all(pid_t pid);

/** The same of two texts in the format of /proc/PID/cgroup. */
bool job_cgroup_texts_agree(const char *ours, const char *theirs);
