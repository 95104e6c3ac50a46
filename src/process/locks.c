/* SPDX-License-Identifier: Apache-2.0 */
#include "process/locks.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "process/idmap.h"

/* A line is about 60 bytes: a million locks. */
#define LOCKS_MAX ((size_t)64 << 20)

/** "1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF", and "1: -> …" for one that waits. Inodes go to `locked`. */
static void read_locks(const char *text, struct idmap *locked) {
        for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
                unsigned major, minor;
                uint64_t inode;

                if (sscanf(line, "%*d: %*s %*s %*s %*d %x:%x:%" SCNu64, &major, &minor, &inode) == 3 && inode != 0)
                        (void)idmap_put(locked, inode, makedev(major, minor));
        }
}

static bool is_locked(const Daemon__ProcessState *state, const struct idmap *locked) {
        for (size_t i = 0; i < state->n_openfiles; i++) {
                const size_t *dev = idmap_get(locked, state->openfiles[i]->inode);
                if (dev && *dev == state->openfiles[i]->dev)
                        return true;
        }
        for (size_t i = 0; i < state->n_children; i++)
                if (is_locked(state->children[i], locked))
                        return true;
        return false;
}

bool process_has_file_locks(const Daemon__ProcessState *root) {
        _cleanup_idmap_ struct idmap locked = { 0 };
        _cleanup_free_ char *text = NULL;

        if (io_read_file(AT_FDCWD, "/proc/locks", LOCKS_MAX, &text, NULL) < 0)
                return false;
        read_locks(text, &locked);
        return is_locked(root, &locked);
}
