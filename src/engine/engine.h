/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The operations. Each runs its chain to the end, on the calling thread, and fills `resp`. They are what a worker runs
 * for the daemon, and what the command line runs itself with --no-server. Messages belong to the caller; req is changed
 * (defaults are filled in).
 */

#include <sys/types.h>

#include <daemon/daemon.pb-c.h>
#include <stasis/operation.h>

/** src/engine/dump.c. On success resp->paths[0] is the checkpoint. */
int engine_dump(struct st_operation *operation, Daemon__DumpReq *req, Daemon__DumpResp *resp, struct st_error **err);

/** What a restore leaves to its caller. */
struct engine_restored {
        pid_t pid;    /* of what was restored; 0: nothing was, it was only checked */
        pid_t child;  /* our child to reap, that ends with the exit code: usually `pid`; 0: others reap it */
        int terminal; /* master of the terminal of what was restored: the caller drains and closes it; -EBADF: none */
};

/** src/engine/restore.c. On success ret->child must be reaped by the calling process. */
int engine_restore(struct st_operation *operation, Daemon__RestoreReq *req, Daemon__RestoreResp *resp,
                   struct engine_restored *ret, struct st_error **err);

/**
 * src/engine/freeze.c: freezes or unfreezes without a dump (DumpReq.Action is not looked at). The answer's messages say
 * how it was done, its state what the target is like then.
 */
int engine_freeze(struct st_operation *operation, Daemon__DumpReq *req, Daemon__DumpResp *resp, struct st_error **err);
int engine_unfreeze(struct st_operation *operation, Daemon__DumpReq *req, Daemon__DumpResp *resp,
                    struct st_error **err);

/** src/engine/query.c */
int engine_query(struct st_operation *operation, Daemon__QueryReq *req, Daemon__QueryResp *resp, struct st_error **err);

/** src/engine/health.c */
int engine_health(struct st_operation *operation, const Daemon__HealthCheckReq *req, Daemon__HealthCheckResp *resp,
                  struct st_error **err);

/** Loads the plugins of Plugins.LibDir (or of where they are by default) into this process. */
void engine_load_plugins(const struct st_arguments *config);
