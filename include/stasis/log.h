/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Logging. One line for each message, to wherever the running program logs: the journal, stderr (coloured on
 * a terminal, JSON when asked for), or, in a worker, the daemon. Safe from every thread, never fails.
 */

#include <stasis/error.h>

enum st_log_level {
        ST_LOG_ERROR = 3, /* the numbers are syslog's (RFC 5424, 6.2.1) */
        ST_LOG_WARNING = 4,
        ST_LOG_INFO = 6,
        ST_LOG_DEBUG = 7,
};

/** Logs one formatted line; control characters in it are replaced. */
ST_PUBLIC void st_log(enum st_log_level level, const char *format, ...) ST_PRINTF(2, 3);

#define st_log_error(...) st_log(ST_LOG_ERROR, __VA_ARGS__)
#define st_log_warning(...) st_log(ST_LOG_WARNING, __VA_ARGS__)
#define st_log_info(...) st_log(ST_LOG_INFO, __VA_ARGS__)
#define st_log_debug(...) st_log(ST_LOG_DEBUG, __VA_ARGS__)
