/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/backlog.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Drops bytes of the oldest piece, which has so many. */
static void drop(struct backlog *backlog, size_t size) {
        backlog->begin = (backlog->begin + size) % SUPERVISOR_BACKLOG;
        backlog->size -= size;
        backlog->runs[backlog->first_run].size -= size;
        if (backlog->runs[backlog->first_run].size == 0) {
                backlog->first_run = (backlog->first_run + 1) % BACKLOG_RUNS;
                backlog->n_runs--;
        }
}

void backlog_add(struct backlog *backlog, enum supervisor_frame kind, const char *data, size_t size) {
        if (size == 0)
                return;
        if (size > SUPERVISOR_BACKLOG) {
                data += size - SUPERVISOR_BACKLOG;
                size = SUPERVISOR_BACKLOG;
        }
        if (!backlog->ring)
                backlog->ring = xmalloc(SUPERVISOR_BACKLOG);
        while (backlog->size + size > SUPERVISOR_BACKLOG) {
                size_t excess = backlog->size + size - SUPERVISOR_BACKLOG;
                size_t oldest = backlog->runs[backlog->first_run].size;

                drop(backlog, oldest < excess ? oldest : excess);
        }

        size_t last = (backlog->first_run + backlog->n_runs + BACKLOG_RUNS - 1) % BACKLOG_RUNS;
        if (backlog->n_runs == 0 || backlog->runs[last].kind != kind) {
                if (backlog->n_runs == BACKLOG_RUNS)
                        drop(backlog, backlog->runs[backlog->first_run].size);
                last = (backlog->first_run + backlog->n_runs) % BACKLOG_RUNS;
                backlog->runs[last].kind = kind;
                backlog->runs[last].size = 0;
                backlog->n_runs++;
        }
        backlog->runs[last].size += size;

        size_t end = (backlog->begin + backlog->size) % SUPERVISOR_BACKLOG;
        size_t straight = size < SUPERVISOR_BACKLOG - end ? size : SUPERVISOR_BACKLOG - end;
        memcpy(backlog->ring + end, data, straight);
        memcpy(backlog->ring, data + straight, size - straight);
        backlog->size += size;
}

bool backlog_take(struct backlog *backlog, enum supervisor_frame *ret_kind, const char **ret, size_t *ret_size) {
        if (backlog->n_runs == 0) {
                backlog_clear(backlog);
                return false;
        }
        size_t size = backlog->runs[backlog->first_run].size;
        if (size > SUPERVISOR_BACKLOG - backlog->begin)
                size = SUPERVISOR_BACKLOG - backlog->begin;
        *ret_kind = backlog->runs[backlog->first_run].kind;
        *ret = backlog->ring + backlog->begin;
        *ret_size = size;
        drop(backlog, size);
        return true;
}

void backlog_clear(struct backlog *backlog) {
        free(backlog->ring);
        backlog->ring = NULL;
        backlog->begin = backlog->size = 0;
        backlog->first_run = backlog->n_runs = 0;
}
