/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Operations on checkpoints that refer to each other; what a worker runs for the daemon. */

#include <stasis/error.h>
#include <stasis/operation.h>
#include <stasis/v1/stasis.pb-c.h>
#include <stasis/v1/worker.pb-c.h>

/** Takes a checkpoint from its place. On failure it is still there; some of the others may have changed though. */
int engine_release(struct st_operation *operation, const Stasis__Worker__Release *req, Stasis__Worker__Folded *resp,
                   struct st_error **err);

/** Makes an image independent of all others. */
int engine_fold(struct st_operation *operation, const Stasis__Worker__Fold *req, Stasis__Worker__Folded *resp,
                struct st_error **err);

/** Sets Parent and Ancestors from what is at Path; of what is no native image there are none. */
void checkpoint_chain_describe(Stasis__V1__CheckpointInfo *info);
