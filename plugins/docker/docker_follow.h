/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Who is waited for in the place of a container, which is the engine's child: a process of ours that carries the
 * container's streams and ends with its exit code. It is this program with the command `docker-follow`, so it outlives
 * whoever has started it, and finds the container again when the engine was restarted.
 */

#include <stdbool.h>
#include <sys/types.h>

#include <stasis/features.h>
#include <stasis/operation.h>

#define DOCKER_FOLLOW "docker-follow"

/** The command. @return the exit code */
int docker_follow(const struct st_arguments *arguments, struct st_error **err);

struct docker_follower {
        pid_t pid; /* 0: none */
        int sync;  /* -EBADF */
};

#define DOCKER_FOLLOWER_NULL ((struct docker_follower){ .pid = 0, .sync = -EBADF })

/**
 * Starts it for a container that does not run yet, and waits until it is attached: so nothing of its output is lost.
 *
 * @param stdio what becomes its 0, 1 and 2; -EBADF: none
 * @param terminal the container has one, and so have they
 */
int docker_follower_start(struct st_operation *operation, const char *host, const char *container, const int stdio[3],
                          bool terminal, struct docker_follower *ret, struct st_error **err);
/** The container runs. */
void docker_follower_go(struct docker_follower *follower);
/** It does not. No-op for one that was let go. */
void docker_follower_stop(struct docker_follower *follower);
