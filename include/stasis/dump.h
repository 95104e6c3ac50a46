/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A dump is a chain of adapters around a handler (src/engine/dump.c has the list, in order). An adapter gets the
 * dump and `next`: what it does before st_dump_proceed() prepares, what it does after undoes, also on failure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <criu/criu.pb-c.h>
#include <daemon/daemon.pb-c.h>
#include <stasis/error.h>
#include <stasis/operation.h>

/**
 * One dump on its way through the chain. The messages are protobuf-c's; strings in them are malloc'ed and owned by
 * their message: replace them by free() and strdup(). Fields are only added at the end; look at `size` before reading
 * one that your ABI minor version does not know.
 */
struct st_dump {
        size_t size; /* of this struct, as the host knows it */
        struct st_operation *operation;
        Daemon__DumpReq *req;        /* the request; adapters fill in what it leaves open */
        Daemon__DumpResp *resp;      /* the answer so far; on success `paths` holds the checkpoint */
        Criu__CriuOpts *criu;        /* req->criu, never NULL: CRIU's options */
        Daemon__ProcessState *state; /* resp->state, filled by "fill process state"; NULL before */
        pid_t pid;                   /* the root of the tree, 0 until the type's adapters found it */
        char *destination;           /* final path of the checkpoint, set by "storage"; malloc'ed */
        bool stop;                   /* the target is to be ended once the checkpoint is committed; since 1.1 */
        const Criu__CriuOpts *given; /* `criu` as the request had it, before defaults and detection; since 1.1 */
};

struct st_dump_next;

/**
 * An adapter of the dump.
 *
 * Called once for each dump, on the operation's main thread, in the order of the list. May block (watch
 * st_operation_cancel_fd()). Must call st_dump_proceed() at most once; not calling it ends the chain there: a failure
 * must be returned with err set. Whatever follows has ended when st_dump_proceed() returns: undo your own preparation
 * then, whatever it returned, and return its result. Never called while the target is frozen: CRIU runs innermost.
 */
typedef int (*st_dump_fn)(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);

struct st_dump_adapter {
        const char *name; /* what profiles and crash messages call it: "network options" */
        st_dump_fn run;
};

/** Runs what follows in the chain, timed; checks first whether the operation was cancelled. */
ST_PUBLIC int st_dump_proceed(struct st_dump_next *next, struct st_dump *dump, struct st_error **err);
