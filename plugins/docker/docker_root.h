/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The files of the machine as the engine sees them: it may have a mount namespace of its own. Paths are those that the
 * engine tells or reads; symbolic links on them are followed inside its root. Any thread.
 */

#include <fcntl.h>
#include <stddef.h>
#include <sys/types.h>

#include <stasis/error.h>

/**
 * Finds the root directory of the engine at an address: that of the process that listens at its socket.
 *
 * @param address as engine_address() has it. tcp://: our own root, in case that it is this machine
 * @return 0 with an O_PATH descriptor, the caller's; -EREMOTE: its files cannot be reached from here; …
 */
int docker_root_open(const char *address, int *ret_fd, struct st_error **err);

/** Who listens at an address. @param ret 0: not known, as for tcp:// or another PID namespace */
int docker_root_listener(const char *address, pid_t *ret, struct st_error **err);

/** Opens `path` below a root, as open(2) does; `mode` for O_CREAT. @return a descriptor or -errno */
int docker_root_openat(int root_fd, const char *path, int flags, mode_t mode);

/** /proc/self/fd/N, by which functions that want a path reach a directory. */
#define DOCKER_ROOT_PATH_MAX 32
const char *docker_root_fd_path(int fd, char path[static DOCKER_ROOT_PATH_MAX]);
