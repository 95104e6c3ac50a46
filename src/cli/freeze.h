/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include <stasis/command.h>

/** The request of `freeze TYPE …` or `unfreeze TYPE …`. @param ret on the heap */
int freeze_request(const struct st_dump_command *type, bool freeze, const struct st_arguments *arguments,
                   Daemon__DumpReq **ret, struct st_error **err);
