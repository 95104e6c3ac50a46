/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A restore: runc_restore.c is the handler, runc_restore_check.c looks at what stands in the way before anything runs,
 * runc_bundle.c makes the bundle that the program gets, runc_restore_start.c runs it.
 */

#include <stdbool.h>

#include "runc.h"

struct runc_plan {
        struct st_restore *restore; /* NULL: a container is brought back (runc_bring_back()) */
        struct st_operation *operation;
        const Plugins__Runc__Runc *details;
        const Criu__CriuOpts *given; /* options that the request named */
        char *id, *root, *bundle;
        char *console_socket, *log; /* absolute; NULL: none */
        json_t *saved;              /* RUNC_FILE_STATE; NULL: made by somebody else */
        json_t *config;             /* config.json of the bundle */
        bool detach, terminal;
        const char *images;    /* directory of CRIU's images */
        char *work;            /* of CRIU: its log */
        char *bundle_used;     /* the bundle that the program gets: `bundle`, or one of our own */
        struct util_list made; /* see runc_mounts_supply() */
        int lock;              /* on the ID: runc_restore_lock(); -EBADF */
        bool started;          /* the program was run: what it left is ours to remove … */
        bool others;           /* … but for what somebody else has made of that ID meanwhile */
};

void runc_plan_clear(struct runc_plan *plan);

/** Is this mount of a config.json a bind mount? */
bool runc_is_bind_mount(const json_t *mount);

/**
 * Looks at what stands in the way of a restore. With req->check each thing found out is a finding and the rest is
 * looked at, too; else the first one is the error.
 */
int runc_restore_check(struct runc_plan *plan, struct st_error **err);

/** Has a container a namespace of that type? @param ret_path the one that it joins; NULL: one of its own */
bool runc_has_namespace(const json_t *config, const char *type, const char **ret_path);

/**
 * Makes a bundle of our own where the container's does not do: to give CRIU a configuration file, and to bring up the
 * loopback interface of a network namespace before anything in it is restored.
 */
int runc_bundle_prepare(struct runc_plan *plan, struct st_error **err);

/** After the restore: what was only in our bundle is taken out of the container's state. */
void runc_bundle_correct(const struct runc_plan *plan);

/**
 * Nobody else of this run directory restores that ID as long as plan->lock is open: runc itself does not notice it when
 * two begin at the same time, and each would remove what the other has made.
 */
int runc_restore_lock(struct runc_plan *plan, struct st_error **err);

/** Runs the program; what was restored is in plan->restore then. */
int runc_restore_start(struct runc_plan *plan, struct st_error **err);

/** Restores what a dump has ended, detached; its output goes nowhere. */
int runc_restore_again(struct runc_plan *plan, const struct st_dump *dump, struct st_error **err);

/**
 * Restores a container that CRIU has ended from images that could not be committed; when that fails, too, they are
 * kept. The error says what became of it.
 *
 * @param err holds why they could not
 * @return that error
 */
int runc_bring_back(struct st_dump *dump, const struct runc_container *container, const char *images,
                    struct st_error **err);
