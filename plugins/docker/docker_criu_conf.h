/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Options of CRIU for a container that the engine checkpoints or restores. The engine's runc has no flag for them: it
 * hands /etc/criu/runc.conf to CRIU, if there is one (criu(8), "Configuration files"; runc, criu_linux.go). So they
 * stand there for as long as an operation needs them, in a block of their own before whatever the file holds.
 *
 * Several operations at once share the block: it holds what all of them want, and goes with the last one. Each has a
 * file beside it, locked while it lives, so what a killed one left is removed by the next. Then the file is what it
 * was (the very same inode), or absent again. What somebody edits in the meantime is kept.
 */

#include <stasis/error.h>
#include <stasis/operation.h>

struct docker_criu_conf;

/**
 * Makes the options stand in the file where the engine's runc reads it. Before anything is frozen; waits at most two
 * seconds for other operations.
 *
 * @param operation cancels the wait; NULL: nothing does
 * @param address of the engine, as engine_address() has it
 * @param options lines as in the file: "tcp-established"; NULL-terminated
 * @param ret to be ended; NULL when the file said all of it anyway
 */
int docker_criu_conf_begin(struct st_operation *operation, const char *address, const char *const options[],
                           struct docker_criu_conf **ret, struct st_error **err);

/** As the former, with the root directory of the engine's mount namespace, which stays the caller's. */
int docker_criu_conf_begin_at(struct st_operation *operation, int root_fd, const char *const options[],
                              struct docker_criu_conf **ret, struct st_error **err);

/** Takes the options back; logs a warning when that fails. NULL is fine. @return NULL */
struct docker_criu_conf *docker_criu_conf_end(struct docker_criu_conf *conf);

/** Takes back what operations that were killed have left; nothing to do is a success. */
int docker_criu_conf_mend(const char *address, struct st_error **err);
int docker_criu_conf_mend_at(int root_fd, struct st_error **err);

static inline void docker_criu_conf_endp(struct docker_criu_conf **conf) {
        *conf = docker_criu_conf_end(*conf);
}

#define _cleanup_criu_conf_ __attribute__((cleanup(docker_criu_conf_endp)))
