/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Between the end of a container and its restore its peers must not hear of its end: the kernel closes the sockets of
 * what is killed, which resets their connections. So before, all its packets are dropped, by a table of nftables in its
 * network namespace, which goes with it.
 */

#include <stdbool.h>
#include <sys/types.h>

#include <jansson.h>

#include <stasis/error.h>

/** Has the container a network namespace of its own, which nobody else is in? */
bool docker_silence_fits(const json_t *inspect);

/** pid: of a process in it */
int docker_silence(pid_t pid, struct st_error **err);
void docker_silence_end(pid_t pid);
