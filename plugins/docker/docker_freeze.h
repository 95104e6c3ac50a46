/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Freezing a container is pausing it by its engine. Both succeed, and say so, when there is nothing to do. */

#include <stasis/features.h>

int docker_freeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                  struct st_error **err);
/** Also what a dump's guard calls when the dump has died: first waits for the end of a CRIU that it has left. */
int docker_unfreeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                    struct st_error **err);
