/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The PID file that the user has named (--pid-file): of a restore, a run, a manage. */

#include <sys/types.h>

#include <stasis/error.h>

/**
 * Finds out before the work whether the file can be written after it.
 *
 * @param given NULL or "": none is wanted
 * @param ret malloc'ed absolute path; NULL: none is wanted
 */
int pid_file_prepare(const char *given, char **ret, struct st_error **err);

/**
 * Writes it; it belongs to uid and gid.
 *
 * @param path of pid_file_prepare(); NULL: nothing is done
 * @return NULL, or what went wrong, malloc'ed: then the process runs all the same
 */
char *pid_file_write(const char *path, pid_t pid, uid_t uid, gid_t gid);
