/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What would make a dump or the later start from it fail, looked at before anything is touched. Any thread. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <jansson.h>

#include <stasis/error.h>

#include "engine.h"

#define DOCKER_PROBLEMS_MAX 16

/** From this major version on the engine makes the network before the restored process exists, but wants its PID. */
#define DOCKER_NO_NETWORK_SINCE 28

/** Problems in the order in which they were found; more than there is room for are left out. */
struct docker_problems {
        size_t n;
        struct docker_problem {
                int number; /* errno */
                char *text;
                char *hint; /* NULL: none */
        } items[DOCKER_PROBLEMS_MAX];
};

void docker_problems_clear(struct docker_problems *problems);
#define _cleanup_problems_ __attribute__((cleanup(docker_problems_clear)))

/** All problems as one error. @return 0 without any */
int docker_problems_error(const struct docker_problems *problems, struct st_error **err);

/** GET /version and GET /info say whether the engine can checkpoint at all. */
void docker_preflight_engine(const struct engine_version *version, const json_t *info,
                             struct docker_problems *problems);

/**
 * Of one container that runs or is paused.
 *
 * @param stop it is to be ended by the dump
 */
void docker_preflight_container(const struct engine_version *version, const json_t *info, const json_t *inspect,
                                bool stop, struct docker_problems *problems);

/** Does whoever runs runc find CRIU? pid: of the shim or the engine. */
void docker_preflight_criu(pid_t pid, struct docker_problems *problems);
