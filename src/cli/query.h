/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <stasis/command.h>

/** The request of `query TYPE …`. @param ret on the heap */
int query_request(const struct st_query_command *type, const struct st_arguments *arguments, Daemon__QueryReq **ret,
                  struct st_error **err);

/** Prints states of processes on stdout: a table, with `inspect` also what each one has open and mounted. */
int query_print_states(Daemon__ProcessState *const *states, size_t n, bool inspect, struct st_error **err);
