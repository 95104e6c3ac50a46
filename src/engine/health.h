/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the files of the health checks share. Each group of checks runs on a thread of its own and is given up after
 * HEALTH_LIMIT_MS: a dead file server or engine must not keep anybody waiting. So a group touches nothing but its own
 * struct, which it owns until it has ended.
 */

#include <stdbool.h>

#include <stasis/health.h>

#define HEALTH_LIMIT_MS 2000

struct health {
        Daemon__HealthCheckResult *result;
        bool full;
        char *criu;        /* CRIU.BinaryPath */
        char *checkpoints; /* Checkpoint.Dir */
};

void health_criu(struct health *health);        /* health_criu.c: CRIU, and what it finds in the kernel */
void health_kernel(struct health *health);      /* health_kernel.c: features of the kernel, capabilities */
void health_limits(struct health *health);      /* health_limits.c: limits, memory, pipes */
void health_directories(struct health *health); /* health.c: where checkpoints, logs and sockets go */

/** Adds a row that is fine when `problem` is NULL, and a warning otherwise. */
static inline void health_warn(struct health *health, const char *name, const char *data, const char *problem) {
        st_health_add(health->result, name, data, NULL, problem);
}

/** Adds a row that is fine when `problem` is NULL, and an error otherwise. */
static inline void health_require(struct health *health, const char *name, const char *data, const char *problem) {
        st_health_add(health->result, name, data, problem, NULL);
}
