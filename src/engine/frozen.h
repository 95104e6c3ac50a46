/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What stasis has frozen, written down: <run dir>/frozen/PID-START.json for each tree (0600, replaced atomically), so
 * that it can be unfrozen by anybody, whatever became of who froze it. The locks beside them: tree_lock.h.
 *
 *   { "version": 1, "boot": "…", "pid": 42, "start": 4711, "uid": 0, "client": 77, "time": 1700000000,
 *     "complete": true, "cgroup": "/sys/fs/cgroup/…", "freezer": 1,
 *     "tasks": [ { "pid", "start", "ours" } ] }
 *
 * A cgroup whose path is not UTF-8 is a "cgroup_hex" (base/json_path.h). Without either it was frozen by signals. A
 * record that is not complete was left by somebody who died on the way.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

#include "process/freezer.h"
#include "process/stopper.h"

struct frozen {
        pid_t pid;
        uint64_t start_time; /* of the root: with the PID, its identity */
        uid_t uid;           /* who asked */
        pid_t client;        /* the same; 0: not known */
        int64_t time;        /* seconds since 1970 */
        bool complete;
        char *cgroup; /* its directory; NULL: frozen by signals */
        enum freezer_version version;
        struct stopped tasks; /* of a cgroup: nobody is "ours" */
};

struct frozen_list {
        struct frozen **items;
        size_t n, room;
};

void frozen_list_clear(struct frozen_list *list);
#define _cleanup_frozen_list_ __attribute__((cleanup(frozen_list_clear)))

struct frozen *frozen_free(struct frozen *frozen);
static inline void frozen_freep(struct frozen **frozen) {
        *frozen = frozen_free(*frozen);
}

/** The JSON text of a record; malloc'ed. */
char *frozen_to_json(const struct frozen *frozen);

/** Reads what frozen_to_json() wrote. @return 0; -EBADMSG with err; -ESTALE: of another boot */
int frozen_from_json(const char *text, struct frozen **ret, struct st_error **err);

/** All records; those of trees of which nobody lives any more are removed. What cannot be read is logged. */
void frozen_load(struct frozen_list *ret);

/** @return the record of a root: of the process that has the PID now, else of one that had it; or NULL */
const struct frozen *frozen_find(const struct frozen_list *list, pid_t pid);

/** @return the first complete record that a process is in; or NULL */
const struct frozen *frozen_find_member(const struct frozen_list *list, pid_t pid, uint64_t start_time);

int frozen_save(const struct frozen *frozen, struct st_error **err);
void frozen_remove(const struct frozen *frozen);

/** Does anybody of the tree live? */
bool frozen_is_alive(const struct frozen *frozen);

/** Is everybody of it that lives still frozen? */
bool frozen_holds(const struct frozen *frozen);

/** Thaws or continues what it froze. Whether that is wanted, and who lives, is for the caller to know. */
int frozen_undo(const struct frozen *frozen, struct st_error **err);
