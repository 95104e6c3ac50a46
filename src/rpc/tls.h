/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Mutual TLS, 1.3 or 1.2: both sides show a certificate that the CA of the configuration has signed, and speak HTTP/2
 * (ALPN "h2"). Nothing is resumed: each connection proves itself anew. Non-blocking; a transport is used by one thread.
 * The process must ignore SIGPIPE.
 */

#include <stdbool.h>

#include <stasis/error.h>
#include "rpc/transport.h"

/** Certificates and keys, of a server or a client. */
struct rpc_tls;

/** PEM files. */
struct rpc_tls_files {
        const char *cert; /* ours, followed by those between it and the CA */
        const char *key;  /* unencrypted, readable by its owner only */
        const char *ca;   /* whoever shows a certificate of these is let in */
};

/**
 * Loads the files.
 *
 * @return 0; -EINVAL when one is not named; -EPERM when the key is open to others; -EKEYEXPIRED; -EBADMSG; … with err
 */
int rpc_tls_new(const struct rpc_tls_files *files, bool server, struct rpc_tls **ret, struct st_error **err);

struct rpc_tls *rpc_tls_free(struct rpc_tls *tls);
static inline void rpc_tls_freep(struct rpc_tls **tls) {
        *tls = rpc_tls_free(*tls);
}

/**
 * A transport over a connected, non-blocking TCP socket, which is to shake hands before it is used. The rpc_tls may be
 * freed before it.
 *
 * @param fd taken, also on failure
 * @param host of a client: name or address that the server's certificate must be for; NULL for a server
 */
int rpc_tls_open(struct rpc_tls *tls, int fd, const char *host, struct rpc_transport **ret, struct st_error **err);

/**
 * Goes on with the handshake. Of a client it has succeeded only when rpc_tls_confirmed() says so, too: in TLS 1.3 the
 * server looks at our certificate after that.
 *
 * @param ret_events what to poll for before the next call: POLLIN or POLLOUT
 * @return 0: done; 1: to be called again; -errno with err: why it failed
 */
int rpc_tls_handshake(struct rpc_transport *transport, int *ret_events, struct st_error **err);

/** Has the server sent its first byte, and so let us in? @return as rpc_tls_handshake() */
int rpc_tls_confirmed(struct rpc_transport *transport, int *ret_events, struct st_error **err);

/** @return the common name (CN) of the peer's certificate, malloc'ed; NULL: it has none, or several */
char *rpc_tls_peer_name(const struct rpc_transport *transport);
