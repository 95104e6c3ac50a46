/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What of a process's namespaces and cgroups differs from ours. Any thread. */

#include <stdbool.h>
#include <sys/types.h>

/** Is a process in another namespace than we? false: no, or unknown. @param name of /proc/PID/ns: "mnt", "cgroup", … */
bool namespaces_differ(pid_t pid, const char *name);

/** Is a process in another cgroup than we, of whatever hierarchy? */
bool namespaces_cgroups_differ(pid_t pid);

/**
 * Has a process a mount namespace of its own, but with the same root file system as ours, as `unshare --mount` makes
 * it? A container has another one.
 */
bool namespaces_mounts_on_our_root(pid_t pid);

/** The same of two texts in the format of /proc/PID/mountinfo: is on "/" the same part of the same file system? */
bool namespaces_same_root(const char *a, const char *b);
