/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/**
 * Who, besides ourselves, can write to a file now, by a descriptor or a mapping?
 *
 * @param ret_who malloc'ed: "process 42 (rsyslogd, since 3 min)", or "a process" that could not be found
 * @return 1; 0: nobody; -errno of opening the file: -ELOOP for a symbolic link in its path
 */
int file_writers_find(const char *path, char **ret_who);
