/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a checkpoint says of itself, beside CRIU's images: the file IMAGE_STATE (stasis.json), JSON.
 *
 *   { "version": 1, "stasis": "0.1.0", "type": "process", "time": 1700000000, "boot": "…",
 *     "criu": { options of the dump that the restore must repeat },
 *     "state": { daemon.ProcessState of the tree },
 *     "tasks": [ { "pid", "pgid", "sid", "start" } ],
 *     "ptys": [ index ], "pipes": [ { "pid", "fd", "inode", "writable" } ] }
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/dump.h>

#include "process/analysis.h"

struct saved_task {
        pid_t pid, pgid, sid;
};

struct saved_state {
        char *type;
        Criu__CriuOpts *criu;
        Daemon__ProcessState *state;
        struct saved_task *tasks;
        size_t n_tasks;
        unsigned *ptys; /* indices of terminals whose master is in the tree: they must be free */
        size_t n_ptys;
        struct process_fd *pipes; /* whose other end was outside the tree */
        size_t n_pipes;
};

/**
 * Is it the standard output or error of a process? When such a pipe leads outside, the process would die of its next
 * line after a restore; other ends that lead nowhere do no harm until they are used, and are restored so.
 */
static inline bool state_pipe_is_output(const struct process_fd *pipe) {
        return pipe->writable && (pipe->fd == 1 || pipe->fd == 2);
}

/** The JSON text of a dump; malloc'ed. */
char *state_to_json(const struct st_dump *dump, const struct process_analysis *analysis);

/** Reads what state_to_json() wrote; bounded and checked: a checkpoint may come from anywhere. -EBADMSG with err. */
int state_from_json(const char *text, struct saved_state **ret, struct st_error **err);

struct saved_state *saved_state_free(struct saved_state *saved);
static inline void saved_state_freep(struct saved_state **saved) {
        *saved = saved_state_free(*saved);
}
