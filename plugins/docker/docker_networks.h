/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The networks of a restored container: with the address and MAC it had where the network allows it and nobody else
 * has them. On its own bridge Docker gives no addresses on request, nor on a network that was made without a subnet.
 */

#include "docker_restore_context.h"

/** Looks at them all, and settles ctx->endpoints. Changes nothing. */
int docker_networks_check(struct docker_restore *ctx, struct st_error **err);

/** The network that a new container is created in; NULL: none of those with endpoints. */
const char *docker_networks_primary(const struct docker_restore *ctx);

/** Connects a new container to its other networks. */
int docker_networks_connect(struct docker_restore *ctx, struct st_error **err);

/** Does an error say that a network gives no addresses on request? */
bool docker_networks_no_addresses(struct st_error *error);

/** Asks for no address from here on; connects a container that exists anew. */
int docker_networks_give_up_addresses(struct docker_restore *ctx, struct st_error **err);

/** An existing container with connections: makes sure that it gets the address that they are of. */
int docker_networks_pin(struct docker_restore *ctx, struct st_error **err);
/** The former taken back. */
int docker_networks_unpin(struct docker_restore *ctx, struct st_error **err);

/** Tells where the running container has another address than at the dump. */
void docker_networks_compare(struct docker_restore *ctx, const json_t *inspect);
