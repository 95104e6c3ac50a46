/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stasis/command.h>

/** The request of `dump TYPE …`. @param ret on the heap */
int dump_request(const struct st_dump_command *type, const struct st_arguments *arguments, Daemon__DumpReq **ret,
                 struct st_error **err);
