/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The operations. Each runs its chain to the end, on the calling thread, and fills `resp`. They are what a worker runs
 * for the daemon, and what the command line runs itself with --no-server. Messages belong to the caller; req is changed
 * (defaults are filled in).
 */

#include <daemon/daemon.pb-c.h>
#include <stasis/operation.h>

/** src/engine/dump.c. On success resp->paths[0] is the checkpoint. */
int engine_dump(struct st_operation *operation, Daemon__DumpReq *req, Daemon__DumpResp *resp, struct st_error **err);

/**
 * src/engine/restore.c. On success resp->pid is running and is a child of the calling process, which must reap it.
 *
 * @param ret_pty the master of the job's terminal, or -EBADF: the caller drains and closes it
 */
int engine_restore(struct st_operation *operation, Daemon__RestoreReq *req, Daemon__RestoreResp *resp, int *ret_pty,
                   struct st_error **err);

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
