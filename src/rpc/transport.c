/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "rpc/transport.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59 /* linux/include/uapi/asm-generic/socket.h */
#endif

struct rpc_peer *rpc_peer_ref(struct rpc_peer *peer) {
        peer->refs++;
        return peer;
}

struct rpc_peer *rpc_peer_unref(struct rpc_peer *peer) {
        if (!peer || --peer->refs > 0)
                return NULL;
        free(peer->groups);
        free(peer->address);
        free(peer->name);
        free(peer);
        return NULL;
}

struct rpc_peer *rpc_peer_of_certificate(char *address, char *name) {
        struct rpc_peer *peer = NEW(struct rpc_peer);

        *peer = (struct rpc_peer){
                .refs = 1, .uid = RPC_PEER_NOBODY, .gid = RPC_PEER_NOBODY, .address = address, .name = name
        };
        return peer;
}

/* The kernel says by ERANGE how many bytes it has; 65536 groups (NGROUPS_MAX) are the most. */
static int peer_groups(int fd, struct rpc_peer *peer) {
        socklen_t size = 32 * sizeof(gid_t);

        for (unsigned attempt = 0; attempt < 3; attempt++) {
                _cleanup_free_ gid_t *groups = xmalloc(size);

                if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0) {
                        peer->n_groups = size / sizeof(gid_t);
                        peer->groups = TAKE_PTR(groups);
                        return 0;
                }
                if (errno == ENODATA || errno == ENOPROTOOPT) /* no credentials of a process; a kernel before 4.13 */
                        return 0;
                if (errno != ERANGE)
                        return -errno;
        }
        return -ERANGE;
}

int rpc_peer_of_socket(int fd, struct rpc_peer **ret) {
        struct ucred credentials;
        socklen_t size = sizeof(credentials);
        struct rpc_peer *peer;
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
                return -errno;
        peer = NEW(struct rpc_peer);
        *peer = (struct rpc_peer){ .refs = 1, .uid = credentials.uid, .gid = credentials.gid, .pid = credentials.pid };
        r = peer_groups(fd, peer);
        if (r < 0) {
                rpc_peer_unref(peer);
                return r;
        }
        *ret = peer;
        return 0;
}

static ssize_t socket_receive(struct rpc_transport *transport, void *buffer, size_t n) {
        ssize_t size;

        do
                size = recv(transport->fd, buffer, n, MSG_DONTWAIT);
        while (size < 0 && errno == EINTR);
        return size < 0 ? -errno : size;
}

static ssize_t socket_send(struct rpc_transport *transport, const void *buffer, size_t n) {
        ssize_t size;

        do
                size = send(transport->fd, buffer, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (size < 0 && errno == EINTR);
        return size < 0 ? -errno : size;
}

static void socket_free(struct rpc_transport *transport) {
        close(transport->fd);
        free(transport);
}

struct rpc_transport *rpc_transport_socket(int fd) {
        struct rpc_transport *transport = NEW(struct rpc_transport);

        *transport =
                (struct rpc_transport){ .fd = fd, .receive = socket_receive, .send = socket_send, .free = socket_free };
        return transport;
}

struct rpc_transport *rpc_transport_free(struct rpc_transport *transport) {
        if (transport) {
                st_error_free(transport->error);
                transport->free(transport);
        }
        return NULL;
}
