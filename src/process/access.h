/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>

#include <stasis/error.h>

/** Sets the error of a process that may not be looked into: whose it is, and what helps. @return -EPERM */
int access_denied(pid_t pid, struct st_error **err);
