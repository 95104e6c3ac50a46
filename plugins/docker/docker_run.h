/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Jobs: docker_run.c makes and starts a container as one, docker_manage.c takes one over. */

#include <stasis/features.h>
#include <stasis/run.h>

int docker_run(struct st_run *run, struct st_run_next *next, struct st_error **err);
int docker_manage(struct st_run *run, struct st_run_next *next, struct st_error **err);

/** Removes the container of a job that is deleted, if `run docker` has made it and it does not run. */
int docker_cleanup(const Daemon__Details *details, struct st_error **err);
