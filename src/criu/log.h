/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Reading a log of CRIU, however large; keeping the logs of failed runs, not too many of them. */

#include <stddef.h>
#include <stdint.h>

/**
 * Stands in brackets on a line of its own, "[123 bytes left out]", where the middle of a large log is missing. A CRIU
 * that loops can write gigabytes (seen: a pages image that was cut off).
 */
#define CRIU_LOG_LEFT_OUT "bytes left out]"

/** How many logs of failed runs are kept unless the configuration says otherwise. */
#define CRIU_LOGS_KEPT 100

/** No more is read of what cannot be skipped: of a pipe, of /dev/zero at standard input. Bytes. */
#define CRIU_LOG_READ_MAX ((uint64_t)1 << 30)

/**
 * Reads a log from where the descriptor stands to its end: a regular file, a pipe. Of one of more than 16 MiB the
 * beginning and the end.
 *
 * @param ret malloc'ed text without NULs within, ended by one
 * @return 0, -ENOMEM, -EISDIR, -EFBIG (beyond CRIU_LOG_READ_MAX) or another -errno of read()
 */
int criu_log_read(int fd, char **ret, size_t *ret_size);

/**
 * Writes a log to the log directory (path_log_dir()) as NAME.log, or NAME-2.log …: an older one is never overwritten.
 * Then the oldest ones that stasis itself wrote (dump-….log, restore-….log) are removed until `limit` are left.
 *
 * @return its path, malloc'ed; NULL when it could not be kept
 */
char *criu_log_keep(const char *text, size_t size, const char *name, size_t limit);
