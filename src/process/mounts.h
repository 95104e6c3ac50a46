/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The mounts that a process sees. */

#include <stddef.h>

#include <daemon/process.pb-c.h>

/** Adds a text in the format of /proc/PID/mountinfo to a list of messages; lines that do not parse are left out. */
void mounts_parse(const char *text, size_t *n, Daemon__Mount ***mounts);

/** Reads the mounts of an open /proc/PID (see proc_open()) into a list of messages. @return 0 or -errno */
int mounts_read(int proc_fd, size_t *n, Daemon__Mount ***mounts);
