/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * containerd's shim of a container: the parent of its first process, which runs runc, which runs CRIU. Its working
 * directory is the container's bundle (containerd, runtime v2): options.json and, after a failure, criu-dump.log.
 * Any thread.
 */

#include <stdbool.h>
#include <sys/types.h>

#include <stasis/error.h>

#define DOCKER_SHIM_CRIU_LOG "criu-dump.log"

/** The shim of a container, by its first process. @return 0: not to be found, as for another runtime */
pid_t docker_shim_of(pid_t pid);

/** Its working directory, O_PATH. @return a descriptor or -errno */
int docker_shim_open(pid_t shim);

/**
 * Looks a program up as a process would: in the PATH of its environment, below its root.
 *
 * @param ret its path there, to be freed
 * @param ret_path the PATH, to be freed; may be NULL
 * @return 0; -ENOENT: it is not there; other: the process cannot be looked at
 */
int docker_shim_look_up(pid_t pid, const char *program, char **ret, char **ret_path);

/** The directory for a process's temporary files, as its environment says: TMPDIR or /tmp. To be freed. */
char *docker_shim_temporary(pid_t pid);

/** Which runc the shim calls, and where that keeps its state: "runc", "/run/docker/runtime-runc/moby"; to be freed. */
int docker_shim_runc(int shim_fd, char **ret_binary, char **ret_root, struct st_error **err);

/** Is a process of ours in the same mount namespace? */
bool docker_shim_shares_mounts(pid_t shim);

/** Field of /proc/PID/status as a number ("PPid", "TracerPid"); negative: cannot be read. */
long docker_proc_number(pid_t pid, const char *field);

/**
 * Waits until CRIU has let go of a container, by its first process: it thaws and freezes the container's cgroup itself,
 * and one whose runc was killed goes on. It is not killed, so this takes as long as it takes.
 *
 * @param start_ms how long one that was just started may need until it traces the process
 */
void docker_criu_wait(pid_t pid, int start_ms);
