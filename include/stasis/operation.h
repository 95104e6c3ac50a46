/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What every operation (dump, restore, query, …) has: who asked, the configuration, a place of its own on disk,
 * a way to report, and a way to be cancelled. Made by the engine for one operation, gone after it.
 * All functions may be called from any thread of the operation.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>
#include <stasis/option.h>

struct st_operation;

/** The configuration: the values of all config keys (see st_arguments_string()). */
ST_PUBLIC const struct st_arguments *st_operation_config(const struct st_operation *operation);

/**
 * The private directory of this operation: short, 0700, removed when it ends. For sockets, logs, temporary files. NULL
 * for a query or health check of an ordinary user.
 */
ST_PUBLIC const char *st_operation_work_dir(const struct st_operation *operation);

/** The user and group who asked for it, as the kernel says (SO_PEERCRED), never as the request says. */
ST_PUBLIC uid_t st_operation_uid(const struct st_operation *operation);
ST_PUBLIC gid_t st_operation_gid(const struct st_operation *operation);

/** The name of the job that is started, dumped, restored, …; NULL: it is about no job. Since 1.2. */
ST_PUBLIC const char *st_operation_jid(const struct st_operation *operation);

/**
 * Has nobody asked for it, but the policy of a job? It may do so for weeks, and nobody looks: what an operation keeps
 * for somebody's eyes is then of the last one only. Since 1.4.
 */
ST_PUBLIC bool st_operation_by_policy(const struct st_operation *operation);

/**
 * Is this an operation inside the command line (`--no-server`)? Then the caller's terminal is ours, and a
 * restored process becomes the command line's own child.
 */
ST_PUBLIC bool st_operation_no_server(const struct st_operation *operation);

/**
 * A descriptor that polls readable (POLLIN or POLLHUP) as soon as the operation is to be cancelled. Wait on it
 * beside everything that can take long; never read from it or close it.
 */
ST_PUBLIC int st_operation_cancel_fd(const struct st_operation *operation);

/** @return 0, or -ECANCELED or -ETIMEDOUT with the reason in err once the operation is to be cancelled */
ST_PUBLIC int st_operation_check_cancelled(const struct st_operation *operation, struct st_error **err);

/**
 * Reports progress to whoever waits: "writing", 10 MiB of 80 MiB. Cheap; may be called often (it is thinned out).
 *
 * @param phase one word or two, static text
 * @param done, total in bytes; total 0: unknown
 */
ST_PUBLIC void st_operation_progress(struct st_operation *operation, const char *phase, uint64_t done, uint64_t total);
