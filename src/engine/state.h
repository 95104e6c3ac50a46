/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a checkpoint says of itself, beside CRIU's images: the file IMAGE_STATE (stasis.json), JSON.
 *
 *   { "version": 1, "stasis": "0.1.0", "type": "process", "time": 1700000000, "boot": "…",
 *     "criu": { options of the dump that the restore must repeat },
 *     "state": { daemon.ProcessState of the tree },
 *     "tasks": [ { "pid", "pgid", "sid", "start", "threads": [ TIDs but the first ] } ],
 *     "ptys": [ index ], "pipes": [ { "pid", "fd", "inode", "writable" } ], "terminals": [ "tty[8803:17]" ],
 *     "criu_version": "4.2.1", "cpu_flags": "fpu …", "pid_namespace": true, "huge_pages": true, "own_mounts": true,
 *     "stopped_by_us": [ PIDs, as those processes see them, that a freeze of ours had stopped ] }
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/dump.h>

#include "base/text.h"
#include "process/analysis.h"

struct saved_task {
        pid_t pid, pgid, sid;
        uint64_t start; /* clock ticks after the boot; 0: not known */
        pid_t *threads; /* TIDs but the first */
        size_t n_threads;
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
        struct strv terminals; /* keys (criu(8), --inherit-fd) of those whose master was outside the tree */
        pid_t *stopped_by_us;  /* a restore continues them */
        size_t n_stopped_by_us;
        char *boot;         /* boot id of the dump's machine; NULL here and below: not known */
        char *criu_version; /* of the dump */
        char *cpu_flags;    /* as /proc/cpuinfo had them */
        bool own_mounts;    /* the root had a mount namespace of its own, on the root file system of the machine */
        bool huge_pages;    /* a process had pages of hugetlbfs */
        bool pid_namespace; /* the root was in another PID namespace than we: CRIU makes a new one for it */
};

/**
 * Is it the standard output or error of a process? When such a pipe leads outside, the process would die of its next
 * line after a restore; other ends that lead nowhere do no harm until they are used, and are restored so.
 */
static inline bool state_pipe_is_output(const struct process_fd *pipe) {
        return pipe->writable && (pipe->fd == 1 || pipe->fd == 2);
}

/**
 * The JSON text of a dump; malloc'ed.
 *
 * @param terminals keys of those whose master is outside the tree
 * @param criu_version NULL: not known
 */
char *state_to_json(const struct st_dump *dump, const struct process_analysis *analysis, const struct strv *terminals,
                    const char *criu_version);

/** Reads what state_to_json() wrote; bounded and checked: a checkpoint may come from anywhere. -EBADMSG with err. */
int state_from_json(const char *text, struct saved_state **ret, struct st_error **err);

struct saved_state *saved_state_free(struct saved_state *saved);
static inline void saved_state_freep(struct saved_state **saved) {
        *saved = saved_state_free(*saved);
}
