/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>

#include <stasis/error.h>

/**
 * Waits for a child, passes on the signals that come, and reaps all other children meanwhile. From then on signals do
 * nothing else to this process: it is to end after it.
 *
 * @param pty the master of the child's terminal, copied from and to our standard streams; -EBADF: none
 * @return the child's exit code, 128 + N for signal N; or -errno with err
 */
int wait_for_process(pid_t pid, int pty, struct st_error **err);
