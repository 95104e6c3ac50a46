/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Jobs: runc_run.c starts a container as one, runc_manage.c takes one over that runs. */

#include "runc.h"

#include <stasis/run.h>

int runc_fill_run(const struct st_arguments *arguments, Daemon__RunReq *req, struct st_error **err);
int runc_fill_manage(const struct st_arguments *arguments, Daemon__RunReq *req, struct st_error **err);
int runc_run(struct st_run *run, struct st_run_next *next, struct st_error **err);
int runc_manage(struct st_run *run, struct st_run_next *next, struct st_error **err);
