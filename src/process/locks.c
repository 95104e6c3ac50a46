/* SPDX-License-Identifier: Apache-2.0 */
#include "process/locks.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "process/idmap.h"

/* A line is about 60 bytes: a million locks. */
#define LOCKS_MAX ((size_t)64 << 20)

/*
 * Reading /proc/locks takes 5 to 15 ms whatever it holds (the kernel waits for all processors), asking a descriptor
 * about 10 µs.
 */
#define FEW_FILES 1000

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

static bool can_be_locked(const Daemon__File *file) {
        return file->path && file->path[0] == '/' && file->rdev == 0;
}

static size_t count_files(const Daemon__ProcessState *state) {
        size_t n = 0;

        for (size_t i = 0; i < state->n_openfiles; i++)
                n += can_be_locked(state->openfiles[i]);
        for (size_t i = 0; i < state->n_children; i++)
                n += count_files(state->children[i]);
        return n;
}

/** A descriptor tells of its locks, a line "lock:" each: proc_pid_fdinfo(5). */
static bool tells_of_lock(const Daemon__ProcessState *state) {
        for (size_t i = 0; i < state->n_openfiles; i++) {
                _cleanup_free_ char *path = NULL, *text = NULL;

                if (!can_be_locked(state->openfiles[i]))
                        continue;
                path = xasprintf("/proc/%u/fdinfo/%" PRIu64, state->pid, state->openfiles[i]->fd);
                if (io_read_file(AT_FDCWD, path, LOCKS_MAX, &text, NULL) == 0 && strstr(text, "\nlock:"))
                        return true;
        }
        for (size_t i = 0; i < state->n_children; i++)
                if (tells_of_lock(state->children[i]))
                        return true;
        return false;
}

bool process_has_file_locks(const Daemon__ProcessState *root) {
        _cleanup_idmap_ struct idmap locked = { 0 };
        _cleanup_free_ char *text = NULL;

        if (count_files(root) <= FEW_FILES)
                return tells_of_lock(root);
        if (io_read_file(AT_FDCWD, "/proc/locks", LOCKS_MAX, &text, NULL) < 0)
                return false;
        read_locks(text, &locked);
        return is_locked(root, &locked);
}
