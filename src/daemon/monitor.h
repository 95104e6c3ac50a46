/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Counts what the daemon does, and serves that when it is configured (Metrics.Enabled). On the loop's thread. */

#include <stasis/error.h>

#include "daemon/service.h"

struct monitor;

/**
 * @param service with its workers and jobs, which must outlive it
 * @return 0, and NULL in ret when metrics are not wanted; as metrics_server_new() otherwise
 */
int monitor_new(struct service *service, struct monitor **ret, struct st_error **err);
struct monitor *monitor_free(struct monitor *monitor);

/** Resident bytes of this process; 0: not known */
uint64_t monitor_resident(void);
