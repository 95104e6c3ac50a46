/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stasis/command.h>

/** The request of `restore TYPE …`. @param ret on the heap */
int restore_request(const struct st_restore_command *type, const struct st_arguments *arguments,
                    Daemon__RestoreReq **ret, struct st_error **err);
