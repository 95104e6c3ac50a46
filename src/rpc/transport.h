/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What carries the bytes of a connection, and who is at its other end. HTTP/2 above it does not know whether that is a
 * UNIX socket or TLS.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <stasis/error.h>

/** The user and group of a peer that the kernel knows nothing of. */
#define RPC_PEER_NOBODY 65534

/**
 * Who is at the other end, as the kernel says, or by TLS its certificate. Reference-counted: calls keep it longer than
 * their connection lives.
 */
struct rpc_peer {
        unsigned refs;
        uid_t uid; /* of a peer by TLS: RPC_PEER_NOBODY, and so is gid */
        gid_t gid;
        pid_t pid; /* at the time of its connect(); 0: unknown */
        gid_t *groups;
        size_t n_groups;
        char *address; /* "192.0.2.1:40000"; NULL: it came by a UNIX socket */
        char *name;    /* common name (CN) of its certificate; NULL: none */
};

struct rpc_peer *rpc_peer_ref(struct rpc_peer *peer);
struct rpc_peer *rpc_peer_unref(struct rpc_peer *peer);

/** A peer by TLS. @param address, name taken */
struct rpc_peer *rpc_peer_of_certificate(char *address, char *name);

/** Asks the kernel for the peer of a UNIX socket (SO_PEERCRED, SO_PEERGROUPS). @return 0 or -errno */
int rpc_peer_of_socket(int fd, struct rpc_peer **ret);

/**
 * A carrier. Functions never block. `receive` and `send` give the number of bytes, -EAGAIN when nothing can be done
 * now, or another -errno; receive gives 0 at the end. What receive holds back must show as readable on `fd`.
 */
struct rpc_transport {
        int fd; /* polled */
        /** Receiving cannot go on before fd is writable; set and reset by `receive`. */
        bool receive_needs_write;
        /** In words, why receive or send failed; owned; NULL: what the errno says is all. */
        struct st_error *error;
        ssize_t (*receive)(struct rpc_transport *transport, void *buffer, size_t n);
        ssize_t (*send)(struct rpc_transport *transport, const void *buffer, size_t n);
        /** Closes and frees the transport. */
        void (*free)(struct rpc_transport *transport);
};

/** A transport over a connected stream socket, which it owns from now on. Never NULL. */
struct rpc_transport *rpc_transport_socket(int fd);

struct rpc_transport *rpc_transport_free(struct rpc_transport *transport);
