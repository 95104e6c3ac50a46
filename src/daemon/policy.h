/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What is done for jobs without being asked each time (JobPolicy): checkpoints at intervals, of which some are kept,
 * and a restore from the newest good one after a death by a signal, by a reboot, or when the daemon was stopped with
 * checkpoints. One thread, the loop's.
 *
 * What is to be done next follows from what is recorded alone; so it is decided anew whenever that changes, and a new
 * daemon goes on where an earlier one stopped.
 */

#include <stdbool.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include <stasis/error.h>

#include "daemon/jobs.h"

struct policies;

/**
 * Reads all jobs that have a policy, and begins what is due.
 *
 * @param jobs must outlive it; its changes are followed
 */
int policies_new(sd_event *loop, struct jobs *jobs, struct policies **ret, struct st_error **err);
struct policies *policies_free(struct policies *policies);

/** @return when the next checkpoint of a job is due, ms since 1970; 0: none is */
int64_t policies_next(const struct policies *policies, const char *jid);

/** Changes a job's policy: fields that are not set stay as they are. @return -ENOENT, -EINVAL with err */
int policies_set(struct policies *policies, const char *jid, const Daemon__JobPolicy *policy, struct st_error **err);

/** @return 0; -EINVAL with err for one that cannot be kept */
int policy_check(const Daemon__JobPolicy *policy, struct st_error **err);

/**
 * Before the daemon stops: dumps and ends all jobs with a policy that run, or are just being restored, when they do;
 * they are restored at the next start. What does not work in time goes on running.
 *
 * @param within_ms 0: as long as it takes
 * @param done called once, from the loop, with a line for each job, malloc'ed, to be taken
 * @return 0; -EBUSY, -EINVAL with err: nothing is begun, `done` is not called
 */
int policies_stop(struct policies *policies, uint64_t within_ms,
                  void (*done)(char **messages, size_t n_messages, void *userdata), void *userdata,
                  struct st_error **err);
