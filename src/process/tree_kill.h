/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Ending a tree of processes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * Sends SIGKILL to all descendants of a process, and to itself if asked for, parents before their children, until no
 * new one appears. Does not wait for their ends; who has ended, or is about to, is left out.
 *
 * @param root with its start time (clock ticks after boot, struct proc_stat): another process of that PID is left alone
 * @return how many it was sent to
 */
size_t tree_kill(pid_t root, uint64_t start_time, bool itself);
