/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Starting a job, and taking one over that runs already, are chains of adapters around a handler: see dump.h, which
 * they mirror, src/engine/run.c and manage.c. Since ABI 1.2.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <daemon/daemon.pb-c.h>
#include <stasis/error.h>
#include <stasis/operation.h>

/** The standard streams of a job, as its host has them; -EBADF each: none. Closed by the host. */
struct st_stdio {
        int terminal; /* the master; then the others are not used */
        int in;       /* what is written here is the job's standard input */
        int out, err; /* what the job prints is read here */
};

/** One run or manage on its way through the chain. Ownership and growth: as struct st_dump. */
struct st_run {
        size_t size;
        struct st_operation *operation;
        Daemon__RunReq *req;   /* type and details are set */
        Daemon__RunResp *resp; /* on success its PID is set by the host */
        bool manage;           /* the process exists already */

        /* Set by the handler. */
        pid_t pid;    /* of the job's root, as seen from here */
        pid_t waiter; /* 0: `pid` is our child; another child of ours that ends with its exit code; ST_RUN_NOBODY */

        /*
         * The job's side of its streams, for a handler that starts it: what becomes its descriptors 0, 1 and 2. A
         * terminal is not yet its controlling one. Set by the host.
         */
        int stdio[3];
        bool terminal; /* they are one */
        char *const
                *cgroups; /* directories of the cgroups it is to run in, one for each hierarchy in use; NULL: none */
};

#define ST_RUN_NOBODY (-1)

struct st_run_next;

/** An adapter of run or manage: the contract of st_dump_fn. */
typedef int (*st_run_fn)(struct st_run *run, struct st_run_next *next, struct st_error **err);

struct st_run_adapter {
        const char *name;
        st_run_fn run;
};

/** Runs what follows in the chain, timed; checks first whether the operation was cancelled. */
ST_PUBLIC int st_run_proceed(struct st_run_next *next, struct st_run *run, struct st_error **err);
