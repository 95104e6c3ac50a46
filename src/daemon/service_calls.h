/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Calls that wait for a worker: from a request to a task, from its end to an answer. */

#include "daemon/service.h"

/**
 * Starts an operation for a call, and answers when it ends.
 *
 * @param target for logs and status: "process 42"; taken
 * @param events the call is of stasis.v1.Stasis: it gets what happens on the way, too
 */
void service_start(struct service *service, struct rpc_call *call, Stasis__Worker__OperationKind kind,
                   const char *kind_name, char *target, bool events);

/* The methods; with `events` those of stasis.v1.Stasis. */
void service_dump(struct service *service, struct rpc_call *call, bool events);
void service_freeze(struct service *service, struct rpc_call *call, Stasis__Worker__OperationKind kind, bool events);
void service_restore(struct service *service, struct rpc_call *call, bool events);
void service_run(struct service *service, struct rpc_call *call, bool manage, bool events);

/** At the daemon's end, after that of the server and of the workers: frees the calls that waited for them. */
void service_calls_clear(struct service *service);

/** Who calls; its text is the caller's to take. */
struct job_caller service_caller(const struct service *service, const struct rpc_call *call);

/** Logs who was refused what. */
void service_log_refusal(const struct rpc_call *call, struct st_error *error);
