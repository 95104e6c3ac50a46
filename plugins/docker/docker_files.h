/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a container changed in its root filesystem (layer.h), put back before it starts. What an existing container has
 * changed since the dump is kept beside, and goes with the container: layer_replace_keep().
 */

#include "docker_restore_context.h"
#include "layer.h"

struct docker_files {
        int home;      /* the directory with the upper one in it; -EBADF: not found yet */
        char *path;    /* the upper one, as the engine tells it */
        char *upper;   /* its name */
        bool replaced; /* what was there is beside it */
};

/** Finds the upper directory of a container. */
int docker_files_open(const struct docker_restore *ctx, const json_t *inspect, struct docker_files *ret,
                      struct st_error **err);
void docker_files_close(struct docker_files *files);

/** Are the container's files those of the checkpoint? @param tar_fd the archive; -1: read from the checkpoint */
int docker_files_compare(struct docker_restore *ctx, const struct docker_files *files, int tar_fd, bool *ret_same,
                         struct st_error **err);

/** Puts those of the archive there, all or nothing. */
int docker_files_replace(struct docker_restore *ctx, struct docker_files *files, int tar_fd, struct st_error **err);

/** The restore has failed: as it was. */
int docker_files_undo(struct docker_files *files, struct st_error **err);

/** The restore has succeeded: what was there is kept and named, or forgotten when the container is new. */
void docker_files_keep(struct docker_restore *ctx, struct docker_files *files);

/** A restore into this container was killed: puts its files back, or keeps them beside when it runs. */
void docker_files_recover(const struct docker_restore *ctx, const json_t *inspect);
