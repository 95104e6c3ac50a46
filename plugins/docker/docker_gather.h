/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a dump keeps of a container besides its memory and files: its configuration, image, networks, volumes. */

#include "docker_saved.h"
#include "docker_target.h"

/** Asks the engine. rootfs_reason is left to the caller. @param saved to be cleared, also on failure */
int docker_gather(const struct docker_target *target, struct docker_saved *saved, struct st_error **err);

/** Says in the answer what will not be in the checkpoint: volumes, exec sessions. */
void docker_gather_tell(const struct docker_target *target, const struct docker_saved *saved, struct st_dump *dump);

/** Writes what `stasis checkpoint inspect` shows of it into a directory: stasis.summary.json. */
int docker_gather_summary(const struct docker_saved *saved, const char *directory, struct st_error **err);
