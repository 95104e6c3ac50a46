/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * containerd keeps the parts of a checkpoint by their digest, and refuses one that it has already: "commit failed:
 * content sha256:…: already exists". A part of every checkpoint of a container is its specification, which is the same
 * each time (containerd, services/tasks/local.go), and two starts from the same images send the same archive
 * (moby/moby#42900). The engine gives them up when its call ends, but they are there until containerd's garbage
 * collection, which a busy one puts off for seconds. Nothing is harmed by the refusal: the call is to be repeated.
 */

#include <stdbool.h>

#include <stasis/error.h>
#include <stasis/operation.h>

/** How often a call is tried in all: the waits between add up to about six seconds. */
#define DOCKER_COLLISION_TRIES 11

/** Did the engine refuse because of that? */
bool docker_collided(struct st_error *error);

/**
 * Waits before the next try.
 *
 * @param tries how many there have been
 * @return 0; -ECANCELED, -ETIMEDOUT with the reason: the operation is cancelled
 */
int docker_collision_wait(struct st_operation *operation, unsigned tries, struct st_error **err);
