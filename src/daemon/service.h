/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The methods of the API: each makes a task of its request, and an answer of the task's end. */

#include <stasis/option.h>

#include "daemon/caller.h"
#include "daemon/jobs.h"
#include "daemon/policy.h"
#include "daemon/supervisors.h"
#include "daemon/workers.h"
#include "rpc/server.h"

struct service {
        const struct st_arguments *config;
        struct access_rules rules;
        struct workers *workers;
        struct supervisors *supervisors;
        struct jobs *jobs;
        struct policies *policies;
        sd_event *loop;
        uint64_t started;         /* seconds since 1970 */
        struct pending *pendings; /* service_calls.c: calls that wait for their workers */
};

/** Registers daemon.Daemon and stasis.v1.Stasis. The service must outlive the server. */
int service_register(struct service *service, struct rpc_server *server, struct st_error **err);
