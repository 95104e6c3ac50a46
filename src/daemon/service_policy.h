/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The methods of stasis.v1.Stasis about policies, and the daemon's stop. */

#include "rpc/server.h"

void service_schedule(struct rpc_call *call, void *userdata);
void service_stop(struct rpc_call *call, void *userdata);
