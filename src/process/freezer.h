/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Cgroups that can be frozen: of version 1 (the controller freezer: freezer.state, freezer.self_freezing) and of
 * version 2 (cgroup.freeze, cgroup.events). A machine may have both at once. Facts: the kernel's
 * Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst and cgroup-v2.rst.
 *
 * A cgroup is frozen by itself, by one above it, or by both; it runs only when nobody freezes it. The root of a
 * hierarchy cannot be frozen. "Directory" is where a cgroup is in the file system, "path" is what /proc/PID/cgroup
 * says.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <stasis/error.h>

enum freezer_version {
        FREEZER_V1 = 1,
        FREEZER_V2 = 2,
};

/** Where a hierarchy is mounted. Zero-initialise; free with freezer_hierarchy_clear(). */
struct freezer_hierarchy {
        enum freezer_version version;
        struct freezer_mount {
                char *root;  /* path of the cgroup that is seen at the mount point */
                char *point; /* mount point */
        } * mounts;
        size_t n, room;
};

/** Looks for the mounts of a hierarchy; there may be none. */
void freezer_hierarchy_load(enum freezer_version version, struct freezer_hierarchy *ret);

/** The same from a text in the format of /proc/PID/mountinfo. */
void freezer_hierarchy_parse(const char *mountinfo, enum freezer_version version, struct freezer_hierarchy *ret);

void freezer_hierarchy_clear(struct freezer_hierarchy *hierarchy);
#define _cleanup_hierarchy_ __attribute__((cleanup(freezer_hierarchy_clear)))

/** The path of the cgroup in a text in the format of /proc/PID/cgroup; malloc'ed. @return 0, -ENOENT or -EBADMSG */
int freezer_path_parse(const char *text, enum freezer_version version, char **ret);

/** The path of a process's cgroup; malloc'ed. @return 0; -ESRCH: it has ended; -ENOENT: no such hierarchy */
int freezer_path_of(pid_t pid, enum freezer_version version, char **ret);

/** Is the path that of a cgroup, or of one below it? */
bool freezer_path_is_within(const char *path, const char *cgroup);

/** The path of the lowest cgroup that both are in; malloc'ed. */
char *freezer_path_common(const char *a, const char *b);

/** Are all threads of a process in a cgroup or below it? (v1 can spread them.) true for a process that is gone */
bool freezer_holds_threads(pid_t pid, enum freezer_version version, const char *path);

/** The directory of a cgroup that can be frozen; malloc'ed. @return 0; -ENOENT: not mounted here, or the root */
int freezer_directory(const struct freezer_hierarchy *hierarchy, const char *path, char **ret);

/** Is it frozen, by itself or from above, with all its processes? @return 1, 0 or -errno */
int freezer_is_frozen(enum freezer_version version, const char *directory);

/** Is it frozen by itself? @return 1, 0 or -errno */
int freezer_is_frozen_itself(enum freezer_version version, const char *directory);

/** Is a process in a cgroup that is frozen? Of a process that is gone, or cannot be asked for: false. */
bool freezer_holds(const struct freezer_hierarchy *hierarchy, pid_t pid);

/** The same for the hierarchies of both versions. */
bool freezer_holds_process(pid_t pid);

/** Sets a cgroup's own state, and does not wait. @return 0 or -errno */
int freezer_set(enum freezer_version version, const char *directory, bool frozen);

/**
 * Freezes a cgroup and waits until it is frozen. On failure it is thawed again.
 *
 * @param cancel_fd polls readable when to give up; -1: none
 * @return 0; -ETIMEDOUT; -ECANCELED; another -errno
 */
int freezer_freeze(enum freezer_version version, const char *directory, int timeout_ms, int cancel_fd);

/**
 * The outermost cgroup that is frozen by itself, beginning with the given one and going up; malloc'ed.
 *
 * @return 0 or -ENOENT
 */
int freezer_outermost(enum freezer_version version, const char *directory, char **ret);

/**
 * The processes of a cgroup and of all below it. One that is in another PID namespace, which we cannot see, is 0.
 *
 * @param ret malloc'ed, unsorted
 * @return 0; -EOPNOTSUPP: one of them is threaded (cgroup-v2.rst) and has no list of processes; another -errno
 */
int freezer_members(const char *directory, pid_t **ret, size_t *ret_n);
