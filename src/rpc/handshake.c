/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The handshakes of a server's TLS listeners. Each is an entry of its own on the loop, with a time limit, and becomes a
 * session when it has succeeded. One that failed stays for a moment, until the peer has read why: closed with bytes of
 * the peer unread, TCP would reset the connection and throw the alert away.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "rpc/address.h"
#include "rpc/server_private.h"

#define HANDSHAKES_LIMIT 256
#define HANDSHAKE_USEC 10000000
#define FAREWELL_USEC 1000000
#define FAREWELL_BYTES ((size_t)64 << 10)

struct handshake {
        struct rpc_server *server;
        const struct listener *listener;
        struct rpc_transport *transport;
        char *address;
        sd_event_source *io, *timer;
        bool failed;     /* the peer is being told */
        size_t unheeded; /* bytes of it that were thrown away since */
        TAILQ_ENTRY(handshake) link;
};

static void handshake_free(struct handshake *handshake) {
        sd_event_source_disable_unref(handshake->io);
        sd_event_source_disable_unref(handshake->timer);
        TAILQ_REMOVE(&handshake->server->handshakes, handshake, link);
        handshake->server->n_handshakes--;
        rpc_transport_free(handshake->transport);
        free(handshake->address);
        free(handshake);
}

void handshakes_end(struct rpc_server *server) {
        struct handshake *handshake;

        while ((handshake = TAILQ_FIRST(&server->handshakes)))
                handshake_free(handshake);
}

static void succeeded(struct handshake *handshake) {
        const struct listener *listener = handshake->listener;
        struct rpc_server *server = handshake->server;
        struct rpc_transport *transport = TAKE_PTR(handshake->transport);
        struct rpc_peer *peer = rpc_peer_of_certificate(TAKE_PTR(handshake->address), rpc_tls_peer_name(transport));

        handshake_free(handshake); /* its entry for the socket must go before the session's comes */
        if (listener->identify)
                listener->identify(peer, listener->userdata);
        if (!server_has_room(server, true))
                rpc_transport_free(transport);
        else
                (void)session_new(server, transport, peer, NULL);
        rpc_peer_unref(peer);
}

static void failed(struct handshake *handshake, struct st_error *error) {
        st_log_warning("refused the connection from %s: %s", handshake->address, st_error_message(error));
        handshake->failed = true;
        if (shutdown(handshake->transport->fd, SHUT_WR) < 0 ||
            sd_event_source_set_io_events(handshake->io, EPOLLIN) < 0 ||
            sd_event_source_set_time_relative(handshake->timer, FAREWELL_USEC) < 0)
                handshake_free(handshake);
}

/* The peer still sends: nobody reads it, until it has seen the alert and gone. */
static void ignore_input(struct handshake *handshake) {
        char buffer[4096];
        ssize_t n = recv(handshake->transport->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

        if (n > 0)
                handshake->unheeded += (size_t)n;
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || handshake->unheeded > FAREWELL_BYTES)
                handshake_free(handshake);
}

static void advance(struct handshake *handshake) {
        _cleanup_error_ struct st_error *error = NULL;
        int events = 0, r = rpc_tls_handshake(handshake->transport, &events, &error);

        if (r < 0)
                failed(handshake, error);
        else if (r == 0)
                succeeded(handshake);
        else
                (void)sd_event_source_set_io_events(handshake->io, events == POLLOUT ? EPOLLOUT : EPOLLIN);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct handshake *handshake = userdata;

        (void)source;
        (void)fd;
        (void)events;
        if (handshake->failed)
                ignore_input(handshake);
        else
                advance(handshake);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        struct handshake *handshake = userdata;

        (void)source;
        (void)usec;
        if (!handshake->failed)
                st_log_warning("refused the connection from %s: no TLS handshake within %d s", handshake->address,
                               HANDSHAKE_USEC / 1000000);
        handshake_free(handshake);
        return 0;
}

void handshake_start(struct listener *listener, int fd) {
        struct rpc_server *server = listener->server;
        struct handshake *handshake;
        int r;

        if (server->n_handshakes >= HANDSHAKES_LIMIT)
                handshake_free(TAILQ_FIRST(&server->handshakes));
        if (io_set_nonblocking(fd, true) < 0) {
                close(fd);
                return;
        }
        rpc_address_keep_alive(fd);
        handshake = NEW(struct handshake);
        handshake->server = server;
        handshake->listener = listener;
        handshake->address = rpc_address_of_peer(fd);
        TAILQ_INSERT_TAIL(&server->handshakes, handshake, link);
        server->n_handshakes++;
        r = rpc_tls_open(listener->tls, fd, NULL, &handshake->transport, NULL);
        if (r >= 0)
                r = sd_event_add_io(server->loop, &handshake->io, fd, EPOLLIN, on_io, handshake);
        if (r >= 0)
                r = sd_event_add_time_relative(server->loop, &handshake->timer, CLOCK_MONOTONIC, HANDSHAKE_USEC, 1000,
                                               on_timer, handshake);
        if (r < 0)
                handshake_free(handshake);
}
