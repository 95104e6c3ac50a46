/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whose the files are that a restore makes: the file of --out, the PID file. */

#include <stasis/restore.h>

/** UID and GID of the request where it sets them (the daemon has checked that the caller may), else the caller's. */
uid_t restore_owner_uid(const struct st_restore *restore);
gid_t restore_owner_gid(const struct st_restore *restore);

/** Opens the file of --out: job_stdio_open_log(), for the owner. */
int restore_open_output(const struct st_restore *restore, struct st_error **err);
