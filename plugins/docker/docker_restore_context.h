/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Between the parts of a restore: docker_restore.c, docker_restore_check.c, docker_networks.c, docker_create.c, … */

#include <stdbool.h>

#include <jansson.h>

#include <stasis/checkpoint.h>

#include "docker_saved.h"
#include "engine.h"

/** One restore. What is found out at first is not changed later; docker_restore.c makes and frees it. */
struct docker_restore {
        struct st_restore *restore;
        bool check;            /* --check: what stands in the way becomes a finding, and nothing is touched */
        struct engine *engine; /* cancelled with the operation: for looking things up */
        struct engine *firm;   /* not cancelled: for what changes something, or undoes it */
        struct engine_version version;
        json_t *info; /* GET /info */
        int root_fd;  /* root directory of the engine's mount namespace */
        struct docker_saved saved;
        bool has_files;       /* DOCKER_SAVED_ROOTFS is in the checkpoint */
        bool connections;     /* TCP connections are to be restored */
        const char *new_name; /* a new container of this name; NULL: into one that exists */
        json_t *target;       /* inspect of the container; NULL while a new one is not made */
        char *id;             /* the same's */
        char *image;          /* what a new one is made of */
        json_t *endpoints;    /* NAME of a network: what the container has there (EndpointConfig); docker_networks.c */
        bool fast;            /* --fast: docker_pages.h */
        bool pinned;          /* endpoints of an existing container were changed */
        bool started;         /* we have had the engine start it: that it runs is our doing */
};

/**
 * Something stands in the way: with --check a finding, and 0; else the error.
 *
 * @param hint may be NULL
 */
int docker_restore_problem(struct docker_restore *ctx, struct st_error **err, int number, const char *check,
                           const char *subject, const char *hint, const char *format, ...)
        __attribute__((format(printf, 7, 8)));

/** Nothing that ends a restore: with --check a finding (a warning), else a line of the answer. */
void docker_restore_warn(struct docker_restore *ctx, const char *check, const char *subject, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/** With --check only: it was looked at and is as it should be. */
void docker_restore_fine(struct docker_restore *ctx, const char *check, const char *subject, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/** Looks at the engine, the image, the volumes; docker_restore_check.c. */
int docker_restore_check_engine(struct docker_restore *ctx, struct st_error **err);
int docker_restore_check_image(struct docker_restore *ctx, struct st_error **err);
int docker_restore_check_volumes(struct docker_restore *ctx, struct st_error **err);

#define DOCKER_CREATE_PREFIX "stasis-new-"

/**
 * Creates the new container from the saved configuration; ctx->id becomes its. It is called DOCKER_CREATE_PREFIX and
 * our PID at first, so that what a killed restore leaves is known as such. docker_create.c.
 */
int docker_create(struct docker_restore *ctx, struct st_error **err);
/** Gives it the name that was asked for, and sets ctx->target. */
int docker_create_name(struct docker_restore *ctx, struct st_error **err);
/** Removes those that killed restores have left. */
void docker_create_clean(const struct docker_restore *ctx);

/** The text under keys of the saved inspect; "" when there is none. */
#define docker_restore_saved(ctx, ...)                                                          \
        ({                                                                                      \
                const char *_text = docker_saved_text((ctx)->saved.inspect, __VA_ARGS__, NULL); \
                _text ? _text : "";                                                             \
        })
