/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The engine starts only from a checkpoint in its own directory (`checkpoint-dir` at a start: 403 "custom
 * checkpointdir is not supported"): <DockerRootDir>/containers/ID/checkpoints/NAME. Ours is there for as long as the
 * start takes. The directory `checkpoints` is locked meanwhile: one restore at a time into one container, and what
 * lies there without a lock is left by one that was killed.
 */

#include "docker_restore_context.h"

struct docker_place {
        int directory; /* `checkpoints`, locked; -EBADF: nothing is placed */
        int fd;        /* of the checkpoint in it */
        char name[64]; /* the same's, as the engine is told */
};

/**
 * Makes a directory for the checkpoint of ctx->id, empty.
 *
 * @param created the container is new, and ours to be removed
 */
int docker_place_make(struct docker_restore *ctx, bool created, struct docker_place *ret, struct st_error **err);

/** Removes it, and unlocks; also what was not made. */
void docker_place_remove(struct docker_place *place);

/** Undoes what killed restores have left in any container: checkpoints, new containers, exchanged files. */
void docker_place_clean(struct docker_restore *ctx);
