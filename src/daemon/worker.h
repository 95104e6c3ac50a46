/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The other side of src/daemon/workers.c: the process that runs one operation. */

/** The socket to the daemon, and the memory file with the task (stasis.worker.Task). */
#define WORKER_SOCKET_FD 3
#define WORKER_TASK_FD 4

/** `stasis worker`: runs the task of WORKER_TASK_FD, reports on WORKER_SOCKET_FD. @return the exit code */
int worker_main(void);
