/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* `stasis query docker`: the containers of an engine as a dump sees them. */

#include <stasis/features.h>

int docker_query(struct st_operation *operation, const Daemon__QueryReq *req, Daemon__QueryResp *resp,
                 struct st_error **err);

/** In the client: the answer as a table on stdout. */
int docker_query_print(const struct st_arguments *arguments, const Daemon__QueryResp *resp, struct st_error **err);
