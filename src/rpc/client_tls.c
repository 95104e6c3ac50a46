/* SPDX-License-Identifier: Apache-2.0 */

/* A client's connection by TCP and TLS. */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "rpc/address.h"
#include "rpc/client.h"

static void hint(struct st_error **err, int r) {
        if (r == -ECONNREFUSED)
                st_error_hint(err, "is the daemon running there, with Protocol tcp?");
        else if (r == -EACCES)
                st_error_hint(err,
                              "both certificates must be signed by the CA of the other side (TLS.CA), be valid now, "
                              "and the daemon's be for the host of --address");
}

/* Calls step until it is done: each time its turn has come, or the time is over. */
static int wait_for(int (*step)(struct rpc_transport *, int *, struct st_error **), struct rpc_transport *transport,
                    uint64_t end, int cancel_fd, struct st_error **err) {
        for (;;) {
                int events = 0, r = step(transport, &events, err);

                if (r <= 0)
                        return r;
                r = rpc_address_wait(transport->fd, events, end, cancel_fd);
                if (r == -ECANCELED)
                        return st_error_set(err, ECANCELED, "cancelled");
                if (r == -ETIMEDOUT)
                        return st_error_set(err, ETIMEDOUT, "no TLS handshake in time");
                if (r < 0)
                        return st_error_errno(err, r, "cannot wait for it");
        }
}

static int shake_hands(struct rpc_tls *tls, const struct rpc_address *address, int fd, uint64_t end, int cancel_fd,
                       struct rpc_transport **ret, struct st_error **err) {
        struct rpc_transport *transport = NULL;
        int r;

        r = rpc_tls_open(tls, fd, address->host, &transport, err);
        if (r < 0)
                return r;
        r = wait_for(rpc_tls_handshake, transport, end, cancel_fd, err);
        if (r >= 0)
                r = wait_for(rpc_tls_confirmed, transport, end, cancel_fd, err);
        if (r < 0) {
                rpc_transport_free(transport);
                return r;
        }
        *ret = transport;
        return 0;
}

static void address_clear(struct rpc_address *address) {
        rpc_address_clear(address);
}

int rpc_client_connect_tls(const char *address, struct rpc_tls *tls, int timeout_ms, int cancel_fd,
                           struct rpc_client **ret, struct st_error **err) {
        uint64_t end = timeout_ms > 0 ? clock_ms() + (uint64_t)timeout_ms : UINT64_MAX;
        _cleanup_(address_clear) struct rpc_address parsed = { 0 };
        struct rpc_transport *transport = NULL;
        int r;

        r = rpc_address_parse(address, &parsed, err);
        if (r < 0)
                return r;
        if (isempty(parsed.host)) {
                st_error_set(err, EINVAL, "'%s' does not say on which host the daemon is", address);
                st_error_hint(err, "write it as HOST:PORT");
                return -EINVAL;
        }
        r = rpc_address_connect(&parsed, end, cancel_fd, err);
        if (r >= 0)
                r = shake_hands(tls, &parsed, r, end, cancel_fd, &transport, err);
        if (r < 0) {
                if (r != -ECANCELED)
                        st_error_wrap(err, "cannot talk to the daemon at %s", address);
                hint(err, r);
                return r;
        }
        *ret = rpc_client_new_transport(transport, address);
        return 0;
}
