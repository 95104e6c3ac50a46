/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a job printed while nobody was attached: the last SUPERVISOR_BACKLOG bytes of both streams, in their order. */

#include <stdbool.h>
#include <stddef.h>

#include "supervisor/protocol.h"

/* So many changes from one stream to the other are remembered; with more the oldest output is dropped earlier. */
#define BACKLOG_RUNS 512

struct backlog {
        char *ring; /* NULL while it is empty */
        size_t begin, size;
        struct {
                enum supervisor_frame kind;
                size_t size;
        } runs[BACKLOG_RUNS]; /* a ring, too: pieces of one stream, the oldest first */
        size_t first_run, n_runs;
};

void backlog_add(struct backlog *backlog, enum supervisor_frame kind, const char *data, size_t size);

/**
 * Takes the oldest bytes of one stream that lie together; they stay valid until something is added.
 *
 * @return false: there is nothing left
 */
bool backlog_take(struct backlog *backlog, enum supervisor_frame *ret_kind, const char **ret, size_t *ret_size);

void backlog_clear(struct backlog *backlog);
