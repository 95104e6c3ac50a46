/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One HTTP/2 connection, of either side: a transport, an nghttp2 session above it, and the bytes between them. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <nghttp2/nghttp2.h>

#include "rpc/buffer.h"
#include "rpc/transport.h"

/** How much a peer may send on one stream before we took it, and on the whole connection. */
#define CONNECTION_STREAM_WINDOW (1 << 20)
#define CONNECTION_WINDOW (8 << 20)

/** The most of a request's or response's headers that is taken. */
#define CONNECTION_HEADER_LIMIT ((size_t)16 << 10)

struct rpc_connection {
        struct rpc_transport *transport; /* owned */
        nghttp2_session *session;        /* owned */
        struct rpc_buffer out;           /* made by the session, not yet taken by the transport */
};

/**
 * Makes the session and queues the first SETTINGS. Flow control is the callbacks' business: they consume by hand.
 *
 * @param callbacks the caller's, copied
 * @param max_streams of a server; 0: this is a client
 * @return 0 or -ENOMEM
 */
int rpc_connection_open(struct rpc_connection *connection, struct rpc_transport *transport,
                        nghttp2_session_callbacks *callbacks, uint32_t max_streams, void *userdata);

/** Frees the session and the transport. The callbacks of streams that are still open are NOT called. */
void rpc_connection_close(struct rpc_connection *connection);

/**
 * Takes what the transport has (a bounded amount) and gives it to the session, which calls the callbacks.
 *
 * @return 0; -ENODATA at the end; -EPROTO when the peer broke the protocol; -errno
 */
int rpc_connection_receive(struct rpc_connection *connection);

/**
 * Sends what the session has to say.
 *
 * @return 0: all of it; 1: the transport takes no more now; -errno (-EPIPE: the peer is gone)
 */
int rpc_connection_send(struct rpc_connection *connection);

/** @return neither side has anything to say any more */
bool rpc_connection_done(const struct rpc_connection *connection);

/** A header field, whose texts nghttp2 copies when it is submitted. */
static inline nghttp2_nv rpc_connection_header(const char *name, const char *value) {
        return (nghttp2_nv){
                .name = (uint8_t *)name,
                .namelen = strlen(name),
                .value = (uint8_t *)value,
                .valuelen = strlen(value),
                .flags = NGHTTP2_NV_FLAG_NONE,
        };
}
