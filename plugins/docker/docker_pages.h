/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A faster start from a checkpoint. The engine packs it into an archive, sends that through containerd's content store
 * in small messages, and unpacks it for runc: of a large container that is nearly all of the time. Of a symbolic link
 * it copies the link; CRIU follows it. So the files with the memory (pages-N.img) stand beside the checkpoint, with
 * links in their place. A link must not begin at the root: CRIU opens these files when it is in the container already,
 * from a directory of the machine; only up from there does a path lead to the machine's root, from however deep.
 */

#include "docker_place.h"
#include "docker_restore_context.h"

/**
 * Moves the memory out of a checkpoint that was placed, and puts links there. What is beside it is removed with what
 * docker_place_clean() finds, or by docker_pages_put_back().
 *
 * @return 0; -EOPNOTSUPP: not with this container's runtime; other -errno; after a failure nothing was moved
 */
int docker_pages_set_aside(struct docker_restore *ctx, const struct docker_place *place, struct st_error **err);

/** Puts the memory back into the checkpoint, which is then as any other. No-op when it is. */
int docker_pages_put_back(const struct docker_place *place, struct st_error **err);

/** Removes what was set aside. */
void docker_pages_remove(const struct docker_place *place);
