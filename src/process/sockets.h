/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A set of sockets of some processes, known by their inodes, and what the kernel says of them. First all are added,
 * then one dump for each protocol and network namespace answers for all of them; protocols that none of them uses are
 * not asked for.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "process/idmap.h"

/** What can be asked for; bits. */
enum socket_kind {
        SOCKET_TCP4 = 1 << 0,
        SOCKET_TCP6 = 1 << 1,
        SOCKET_UDP4 = 1 << 2,
        SOCKET_UDP6 = 1 << 3,
        SOCKET_UNIX = 1 << 4,
        SOCKET_ALL = (1 << 5) - 1,
};

/** What is known of one socket. Pointers belong to who reports it. */
struct socket_facts {
        uint64_t inode;
        unsigned family, type;         /* AF_, SOCK_; 0: unknown */
        unsigned state;                /* TCP_ESTABLISHED … of netinet/tcp.h, for all families; 0: unknown */
        uint8_t local[16], remote[16]; /* addresses in network order; IPv4: the first 4 bytes */
        uint16_t local_port, remote_port;
        const char *name; /* AF_UNIX: what it is bound to, NULL: nothing; abstract: begins with a NUL */
        size_t name_length;
        uint64_t peer;           /* AF_UNIX: inode; 0: none, or closed, or not accepted yet */
        bool connected;          /* AF_UNIX: it has a peer, even one without an inode */
        bool peer_unknown;       /* AF_UNIX: the source does not tell who the peer is */
        bool shut_down;          /* AF_UNIX: in both directions, as when the peer is closed */
        const uint32_t *pending; /* AF_UNIX, listening: inodes of clients that are not accepted yet */
        size_t n_pending;
};

typedef void (*socket_fn)(const struct socket_facts *facts, void *userdata);

struct socket {
        struct socket_facts facts; /* without name and pending */
        char *name;                /* AF_UNIX, sanitised, abstract as "@name"; NULL: not bound */
        bool found;                /* the kernel reported it */
        bool looked;               /* at its protocol: kinds, and of facts the family and type, are known */
        unsigned kinds;            /* not found: what it may be; 0: nothing that can be asked for */
        size_t namespace;          /* of the process that holds it */
        pid_t pid;                 /* the first descriptor of it */
        int fd;
};

/** Zero-initialise; free with sockets_clear(). */
struct sockets {
        struct socket *items;
        size_t n, room;
        bool want_names; /* remember the names of all UNIX sockets, for sockets_peer_name() */

        struct idmap index;      /* inode → item */
        struct idmap pending;    /* inodes of clients waiting at listening sockets of the set */
        struct idmap name_index; /* inode → name */
        char **names;
        size_t n_names, room_names;
        struct sockets_namespace {
                int fd; /* of the network namespace; -EBADF: our own */
                uint64_t inode;
                pid_t pid;         /* a process in it */
                int netlink;       /* -EBADF: not opened yet; another negative: cannot be */
                uint32_t requests; /* made so far */
                unsigned asked;    /* kinds */
        } * namespaces;
        size_t n_namespaces, room_namespaces;
        pid_t last_pid; /* whose namespace was looked up last */
        size_t last_namespace;
};

/**
 * Adds the socket behind a descriptor.
 *
 * @param proc_fd of the process, see proc_open()
 * @return its index
 */
size_t sockets_add(struct sockets *set, int proc_fd, pid_t pid, int fd, uint64_t inode);

/**
 * Asks the kernel about all sockets of the set. What it does not report keeps found = false: a socket that was never
 * bound or connected, or is of a protocol that is not asked for.
 */
void sockets_resolve(struct sockets *set);

/** Is it a TCP socket that has, or may have had, a connection: in any state but LISTEN? */
bool socket_is_established(const struct socket *socket);

/** Is it an AF_UNIX socket whose peer is not in the set? */
bool sockets_peer_is_outside(const struct sockets *set, const struct socket *socket);

/** @return what the peer of an AF_UNIX socket is bound to, NULL when unknown; with want_names also of those outside */
const char *sockets_peer_name(const struct sockets *set, const struct socket *socket);

/** "ESTABLISHED", "LISTEN", …; "NONE" for what has no state. Static. */
const char *socket_state_text(const struct socket *socket);

void sockets_clear(struct sockets *set);
#define _cleanup_sockets_ __attribute__((cleanup(sockets_clear)))
