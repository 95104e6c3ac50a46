/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The record of a supervised process: <run dir>/jobs/ID/status, text, one "key value" on each line, replaced
 * atomically. The supervisor writes it, the daemon reads it: so exit codes survive a restart of the daemon.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct supervisor_status {
        pid_t pid;           /* of the process */
        uint64_t start_time; /* clock ticks after boot */
        char boot[64];       /* boot id: PIDs of another boot mean nothing */
        pid_t supervisor;    /* PID of the supervisor */
        uint64_t supervisor_start;
        bool exited;
        int exit_status; /* as of waitpid(2), once exited */
        int64_t time;    /* seconds since 1970: of the restore, or of the end */
};

/** Writes dir/status. @return 0 or -errno */
int supervisor_status_write(const char *dir, const struct supervisor_status *status);

/** Reads dir/status; strict. @return 0, -ENOENT, -EBADMSG */
int supervisor_status_read(const char *dir, struct supervisor_status *ret);

/** Start time of a process (proc(5), stat), 0 when it is gone. */
uint64_t supervisor_start_time(pid_t pid);

/** The boot's id into a buffer; "" when unknown. */
void supervisor_boot_id(char buffer[static 64]);
