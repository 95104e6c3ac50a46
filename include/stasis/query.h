/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <daemon/query.pb-c.h>
#include <stasis/error.h>
#include <stasis/operation.h>

/**
 * Answers a query of the plugin's type: fills resp from req. Runs in a worker, may block.
 * Strings put into resp are malloc'ed and belong to it from then on.
 */
typedef int (*st_query_fn)(struct st_operation *operation, const Daemon__QueryReq *req, Daemon__QueryResp *resp,
                           struct st_error **err);
