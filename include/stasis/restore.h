/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A restore is a chain of adapters around a handler: see dump.h, which it mirrors, and src/engine/restore.c. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <criu/criu.pb-c.h>
#include <daemon/daemon.pb-c.h>
#include <stasis/error.h>
#include <stasis/operation.h>

/** One restore on its way through the chain. Ownership and growth: as struct st_dump. */
struct st_restore {
        size_t size;
        struct st_operation *operation;
        Daemon__RestoreReq *req;
        Daemon__RestoreResp *resp;   /* on success `pid` is set */
        Criu__CriuOpts *criu;        /* req->criu, never NULL */
        Daemon__ProcessState *state; /* resp->state: as saved in the checkpoint, NULL when it holds none */
        pid_t pid;                   /* of the restored root, as seen from here; 0 before the handler succeeded */

        /*
         * Since 1.1, set by a handler. Who is to be waited for in the place of `pid`: a child of ours that ends with
         * the exit code of what was restored (0: `pid` is our child; ST_RESTORE_NOBODY: it belongs to somebody else,
         * nobody of us waits). Once the operation has succeeded its child is kept by a supervisor, or by the command
         * line.
         */
        pid_t waiter;
        int terminal; /* master of the terminal of what was restored, for who waits; the host closes it; -EBADF: none */

        const Criu__CriuOpts *given; /* `criu` as the request had it, before the saved options came to it; since 1.1 */
};

#define ST_RESTORE_NOBODY (-1)

struct st_restore_next;

/** An adapter of the restore: the contract of st_dump_fn. */
typedef int (*st_restore_fn)(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);

struct st_restore_adapter {
        const char *name;
        st_restore_fn run;
};

/** Runs what follows in the chain, timed; checks first whether the operation was cancelled. */
ST_PUBLIC int st_restore_proceed(struct st_restore_next *next, struct st_restore *restore, struct st_error **err);

/**
 * For a handler: the streams that what it restores is to have, when it can choose them. With RestoreReq.Attachable, or
 * for one that needs a terminal, fresh ones whose other side goes to who waits (st_restore.terminal stays -EBADF); else
 * the file of RestoreReq.Log, or that of the job. To be called once. Since 1.2.
 *
 * @param ret what becomes its descriptors 0, 1 and 2, -EBADF: none; the caller's to close
 * @return 1; 0: there are none, its output is not asked for; -errno with err
 */
ST_PUBLIC int st_restore_streams(struct st_restore *restore, bool terminal, int ret[3], struct st_error **err);

/**
 * Hands a descriptor to the restored tree: CRIU puts it in the place of the resource that `key` names
 * (criu(8), --inherit-fd: "pipe:[123]", "tty[8801:24]", a path without its leading slash).
 * The descriptor stays the caller's and must stay open until st_restore_proceed() returned.
 */
ST_PUBLIC int st_restore_inherit_fd(struct st_restore *restore, int fd, const char *key, struct st_error **err);
