/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * CRIU's log of a start that fails. runc has CRIU write it into the work directory of containerd's shim, and that
 * removes it as soon as the start has failed. So a thread waits for it to appear, and holds it open: the shim is the
 * new process with the container's ID in its command line, its working directory is the bundle, `work` in it leads to
 * restore.log (containerd, runtime v2).
 */

#include <stdbool.h>

struct docker_criu_log;

/** Begins to wait. NULL: cannot be done, and there will be no log. @param root_fd stays the caller's, until the end */
struct docker_criu_log *docker_criu_log_watch(int root_fd, const char *id);

/**
 * Ends it.
 *
 * @param directory where the log goes, as restore.log; NULL: nowhere
 * @return has it been written there?
 */
bool docker_criu_log_end(struct docker_criu_log *log, const char *directory);
