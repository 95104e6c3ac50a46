/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a new job gets of whoever starts it. */

#include <stdbool.h>

#include <daemon/daemon.pb-c.h>
#include <stasis/error.h>

/** Fills UID, GID, groups, environment, umask and limits. @param as_root IDs of root in the place of our own */
int identity_fill(Daemon__RunReq *req, bool as_root, struct st_error **err);

/**
 * Finds a command as a shell does: in PATH when it has no slash.
 *
 * @param ret absolute, malloc'ed
 * @return 0; -ENOENT, -EACCES, -EISDIR with err
 */
int identity_find_command(const char *command, char **ret, struct st_error **err);
