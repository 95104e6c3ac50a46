/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stasis/command.h>

/** The request of `manage TYPE …`. @param ret on the heap */
int manage_request(const struct st_run_command *type, const struct st_arguments *arguments, Daemon__RunReq **ret,
                   struct st_error **err);
