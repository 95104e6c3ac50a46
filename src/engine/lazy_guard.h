/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The guard of a lazy restore, seen from the process that it guards: lazy_process.h says what it is. */

#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

/** Whom it guards against what. Texts are the caller's. */
struct lazy_guard_options {
        const char *image, *job, *supervisor, *start; /* the server's own words */
        const char *record;
};

/** Starts it. @param ret_socket to send it messages. @return its PID */
pid_t lazy_guard_start(const struct lazy_guard_options *options, int *ret_socket, struct st_error **err);
