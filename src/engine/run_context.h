/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the built-in adapters of run and manage share; plugins see its first member only. */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include <stasis/run.h>

#include "base/text.h"
#include "engine/job_stdio.h"

struct run_context {
        struct st_run run; /* first: a struct st_run of the chain is one of these */
        struct job_stdio stdio;
        struct strv cgroups;
        uint64_t start_time; /* of run.pid, clock ticks after boot; 0: not known yet */
};

static inline struct run_context *run_context(struct st_run *run) {
        return (struct run_context *)run;
}

/** One for a request that has come; job_stdio_clear(), strv_clear() what it gets. */
static inline struct run_context run_context_for(struct st_operation *operation, Daemon__RunReq *req,
                                                 Daemon__RunResp *resp) {
        return (struct run_context){
                .run = {
                        .size = sizeof(struct st_run),
                        .operation = operation,
                        .req = req,
                        .resp = resp,
                        .stdio = { -EBADF, -EBADF, -EBADF },
                },
                .stdio = JOB_STDIO_NULL,
        };
}

/** Who the job is to be: of the request where it says so, else who asked. */
uid_t run_uid(const struct st_run *run);
gid_t run_gid(const struct st_run *run);

/** A line for the user, as on success. */
void run_message(struct st_run *run, const char *format, ...) ST_PRINTF(2, 3);

/* The built-in adapters, in the order of the lists in run.c and manage.c. */
int run_defaults(struct st_run *run, struct st_run_next *next, struct st_error **err);
int run_validate(struct st_run *run, struct st_run_next *next, struct st_error **err);
int run_validate_process(struct st_run *run, struct st_run_next *next, struct st_error **err);
int run_pid_file(struct st_run *run, struct st_run_next *next, struct st_error **err);
int run_stdio(struct st_run *run, struct st_run_next *next, struct st_error **err);
int run_cgroup(struct st_run *run, struct st_run_next *next, struct st_error **err);
int run_result(struct st_run *run, struct st_run_next *next, struct st_error **err);
int run_process(struct st_run *run, struct st_run_next *next, struct st_error **err);
int manage_validate(struct st_run *run, struct st_run_next *next, struct st_error **err);
int manage_process(struct st_run *run, struct st_run_next *next, struct st_error **err);
