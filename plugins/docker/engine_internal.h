/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Between engine.c and engine_container.c. */

#include "engine.h"
#include "engine_http.h"

/** engine_call() with streams: the request's path has no version yet. */
int engine_exchange(struct engine *engine, const struct engine_http_request *wanted, json_t **ret_reply,
                    struct st_error **err);
