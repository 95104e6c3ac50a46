/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The methods about jobs and checkpoints that need no worker, and Attach. */

#include "rpc/server.h"

void service_attach(struct rpc_call *call, void *userdata);
void service_get(struct rpc_call *call, void *userdata);
void service_list(struct rpc_call *call, void *userdata);
void service_kill(struct rpc_call *call, void *userdata);
void service_delete(struct rpc_call *call, void *userdata);
void service_get_checkpoint(struct rpc_call *call, void *userdata);
void service_list_checkpoints(struct rpc_call *call, void *userdata);
void service_delete_checkpoint(struct rpc_call *call, void *userdata);
void service_fold_checkpoint(struct rpc_call *call, void *userdata);

/* Of stasis.v1.Stasis. */
void service_list_jobs(struct rpc_call *call, void *userdata);
void service_list_checkpoint_infos(struct rpc_call *call, void *userdata);
