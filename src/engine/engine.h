/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The operations. Each runs its chain to the end, on the calling thread, and fills `resp`. They are what a worker runs
 * for the daemon, and what the command line runs itself with --no-server. Messages belong to the caller; req is changed
 * (defaults are filled in).
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <daemon/daemon.pb-c.h>
#include <stasis/operation.h>
#include <stasis/run.h>

/** src/engine/dump.c. On success resp->paths[0] is the checkpoint. */
int engine_dump(struct st_operation *operation, Daemon__DumpReq *req, Daemon__DumpResp *resp, struct st_error **err);

/** What a restore, a run or a manage leaves to its caller. ENGINE_STARTED_NULL; freed by engine_started_clear(). */
struct engine_started {
        pid_t pid;             /* of the root of what runs now; 0: nothing was restored, it was only checked */
        uint64_t start_time;   /* of that process, clock ticks after boot; 0: it has ended already */
        pid_t child;           /* our child to reap, that ends with the exit code: usually `pid`; 0: others reap it */
        struct st_stdio stdio; /* our ends of its standard streams: the caller drains and closes them; -EBADF: none */
        char *log;             /* to which the output is appended, absolute; NULL: no such file. malloc'ed */
        int memory_fd;         /* its memory still comes: the caller looks after it (supervisor/memory.h); -EBADF: no */
        char *memory_record;   /* of that; malloc'ed */
};

#define ENGINE_STDIO_NULL ((struct st_stdio){ .terminal = -EBADF, .in = -EBADF, .out = -EBADF, .err = -EBADF })
#define ENGINE_STARTED_NULL ((struct engine_started){ .stdio = ENGINE_STDIO_NULL, .memory_fd = -EBADF })

/** Closes our ends and frees; the process is left alone. */
void engine_started_clear(struct engine_started *started);

/** Are there streams of it that somebody must look after? */
bool engine_started_has_stdio(const struct engine_started *started);

/** src/engine/restore.c. On success ret->child must be reaped by the calling process. */
int engine_restore(struct st_operation *operation, Daemon__RestoreReq *req, Daemon__RestoreResp *resp,
                   struct engine_started *ret, struct st_error **err);

/**
 * src/engine/run.c: starts a process (or what a plugin's type is). On success ret->child must be reaped by the calling
 * process. Inside the command line (st_operation_no_server()) and without RunReq.Log or Attachable it has the caller's
 * own standard streams. A command that cannot be started is an error: -ENOENT, -EACCES, -EISDIR, -ENOEXEC, ….
 */
int engine_run(struct st_operation *operation, Daemon__RunReq *req, Daemon__RunResp *resp, struct engine_started *ret,
               struct st_error **err);

/**
 * src/engine/manage.c: finds what runs already (RunReq.Details) and is to become a job; nothing is done to it.
 * ret->pid and ret->start_time tell which process it is.
 */
int engine_manage(struct st_operation *operation, Daemon__RunReq *req, Daemon__RunResp *resp,
                  struct engine_started *ret, struct st_error **err);

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

/**
 * src/engine/job_end.c: has the plugin of a job's type remove what the job, which has ended, left behind. A plugin that
 * has nothing to remove is no failure; one that is not there is: -EOPNOTSUPP.
 */
int engine_cleanup(const char *type, const Daemon__Details *details, struct st_error **err);

/** src/engine/job_end.c: which signal ends a job of the type; SIGKILL when its plugin names none, and on failure. */
int engine_kill_signal(const char *type, int *ret, struct st_error **err);

/** Loads the plugins of Plugins.LibDir (or of where they are by default) into this process. */
void engine_load_plugins(const struct st_arguments *config);
