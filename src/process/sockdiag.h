/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Two sources about sockets: sock_diag(7), and the texts of /proc/PID/net where that is not to be had. */

#include "process/sockets.h"

/**
 * Opens a netlink socket that talks about a network namespace.
 *
 * @param namespace_fd of /proc/PID/ns/net; negative: our own
 * @return a descriptor or -errno
 */
int sockdiag_open(int namespace_fd);

/**
 * Reports all sockets of one kind.
 *
 * @param number of the request: a new one for each on the same descriptor, not 0
 * @return 0 or -errno (-ENOENT: the kernel lacks that module)
 */
int sockdiag_dump(int fd, uint32_t number, enum socket_kind kind, socket_fn report, void *userdata);

/** Reports the sockets in a text of /proc/PID/net of that kind. Lines that do not parse are left out. */
void netproc_parse(enum socket_kind kind, const char *text, socket_fn report, void *userdata);

/** Reports all sockets of one kind in the network namespace of a process. @return 0 or -errno */
int netproc_read(pid_t pid, enum socket_kind kind, socket_fn report, void *userdata);
