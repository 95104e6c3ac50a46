/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/parallel.h"
#include "process/sockdiag.h"
#include "process/sockets.h"

/* After so many sockets that are in no table, and of a protocol that was asked for, the rest is likely to be so too. */
#define VAIN_MAX 64
#define PARALLEL_STEP 64

/* What the kernel calls protocols, in the attribute system.sockprotoname of a socket's descriptor (net/socket.c). */
static const struct {
        const char *name;
        unsigned kinds, family, type;
} protocols[] = {
        { "TCP", SOCKET_TCP4, AF_INET, SOCK_STREAM },
        { "TCPv6", SOCKET_TCP6, AF_INET6, SOCK_STREAM },
        { "UDP", SOCKET_UDP4, AF_INET, SOCK_DGRAM },
        { "UDPv6", SOCKET_UDP6, AF_INET6, SOCK_DGRAM },
        { "UNIX", SOCKET_UNIX, AF_UNIX, 0 },
        { "UNIX-STREAM", SOCKET_UNIX, AF_UNIX, SOCK_STREAM },
        { "MPTCP", 0, AF_INET, SOCK_STREAM },
        { "MPTCPv6", 0, AF_INET6, SOCK_STREAM },
        { "UDP-Lite", 0, AF_INET, SOCK_DGRAM },
        { "UDPLITEv6", 0, AF_INET6, SOCK_DGRAM },
        { "PING", 0, AF_INET, SOCK_DGRAM },
        { "PINGv6", 0, AF_INET6, SOCK_DGRAM },
        { "RAW", 0, AF_INET, SOCK_RAW },
        { "RAWv6", 0, AF_INET6, SOCK_RAW },
        { "SCTP", 0, AF_INET, 0 },
        { "SCTPv6", 0, AF_INET6, 0 },
        { "NETLINK", 0, AF_NETLINK, SOCK_RAW },
        { "PACKET", 0, AF_PACKET, 0 },
        { "AF_VSOCK", 0, AF_VSOCK, 0 },
        { "ALG", 0, AF_ALG, SOCK_SEQPACKET },
        { "XDP", 0, AF_XDP, SOCK_RAW },
};

/* Once: what is closed meanwhile stays unknown, and nothing is asked for it. */
static void read_protocol(struct socket *socket) {
        char path[64], name[64];

        if (socket->looked)
                return;
        socket->looked = true;
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)socket->pid, socket->fd);
        ssize_t n = getxattr(path, "system.sockprotoname", name, sizeof(name) - 1);
        if (n < 0) {
                if (errno != ENOENT && errno != ESRCH)
                        socket->kinds = SOCKET_ALL;
                return;
        }
        name[n] = 0;
        for (size_t i = 0; i < ELEMENTSOF(protocols); i++)
                if (streq(name, protocols[i].name)) {
                        socket->kinds = protocols[i].kinds;
                        socket->facts.family = protocols[i].family;
                        socket->facts.type = protocols[i].type;
                        break;
                }
}

static void read_protocols(size_t begin, size_t end, void *userdata) {
        struct socket *items = userdata;

        for (size_t i = begin; i < end; i++)
                if (!items[i].found)
                        read_protocol(&items[i]);
}

static uint64_t own_namespace(void) {
        struct stat st;

        return stat("/proc/thread-self/ns/net", &st) < 0 ? 0 : st.st_ino;
}

static size_t add_namespace(struct sockets *set, uint64_t inode, int fd, pid_t pid) {
        GROW(set->namespaces, set->n_namespaces, set->room_namespaces);
        set->namespaces[set->n_namespaces] = (struct sockets_namespace){
                .fd = fd,
                .inode = inode,
                .pid = pid,
                .netlink = -EBADF,
        };
        return set->n_namespaces++;
}

static bool find_namespace(const struct sockets *set, uint64_t inode, size_t *ret) {
        for (size_t i = 0; i < set->n_namespaces; i++)
                if (set->namespaces[i].inode == inode) {
                        *ret = i;
                        return true;
                }
        return false;
}

/* @return the index of a process's network namespace; sockets of one process follow each other */
static size_t namespace_of(struct sockets *set, int proc_fd, pid_t pid) {
        struct stat st = { 0 };

        if (set->last_pid == pid)
                return set->last_namespace;
        set->last_pid = pid;
        uint64_t own = own_namespace();
        if (fstatat(proc_fd, "ns/net", &st, 0) < 0)
                st.st_ino = own; /* a kernel without namespaces */
        if (!find_namespace(set, st.st_ino, &set->last_namespace)) {
                int fd = st.st_ino == own ? -EBADF : openat(proc_fd, "ns/net", O_RDONLY | O_CLOEXEC);
                set->last_namespace = add_namespace(set, st.st_ino, fd, pid);
        }
        return set->last_namespace;
}

size_t sockets_add(struct sockets *set, int proc_fd, pid_t pid, int fd, uint64_t inode) {
        const size_t *known = idmap_get(&set->index, inode);

        if (known)
                return *known;
        GROW(set->items, set->n, set->room);
        set->items[set->n] = (struct socket){
                .facts.inode = inode,
                .namespace = namespace_of(set, proc_fd, pid),
                .pid = pid,
                .fd = fd,
        };
        idmap_put(&set->index, inode, set->n);
        return set->n++;
}

static char *show_name(const char *name, size_t length) {
        if (length == 0)
                return NULL;
        if (name[0]) /* a path ends at its first NUL */
                return text_sanitise(name, strnlen(name, length));

        _cleanup_free_ char *copy = xmalloc(length);
        for (size_t i = 0; i < length; i++)
                copy[i] = name[i] ? name[i] : '@';
        return text_sanitise(copy, length);
}

static void note_name(struct sockets *set, const struct socket_facts *facts) {
        char *name = show_name(facts->name, facts->name_length);

        if (!name)
                return;
        if (!idmap_put(&set->name_index, facts->inode, set->n_names)) {
                free(name);
                return;
        }
        GROW(set->names, set->n_names, set->room_names);
        set->names[set->n_names++] = name;
}

/* Takes what is reported of any socket on the system; most are not of the set. */
static void take(const struct socket_facts *facts, void *userdata) {
        struct sockets *set = userdata;
        const size_t *index = idmap_get(&set->index, facts->inode);

        if (!index) {
                if (set->want_names && facts->name)
                        note_name(set, facts);
                return;
        }
        struct socket *socket = &set->items[*index];
        if (socket->found)
                return;
        socket->found = true;
        socket->facts = *facts;
        socket->facts.name = NULL;
        socket->facts.pending = NULL;
        socket->name = facts->name ? show_name(facts->name, facts->name_length) : NULL;
        for (size_t i = 0; i < facts->n_pending; i++)
                if (facts->pending[i] != 0)
                        idmap_put(&set->pending, facts->pending[i], 0);
}

/* Asks a namespace for what it was not asked for yet. */
static void ask(struct sockets *set, struct sockets_namespace *namespace, unsigned kinds) {
        kinds &= ~namespace->asked;
        if (kinds == 0)
                return;
        if (namespace->netlink == -EBADF) {
                /* Another's namespace whose link does not open: the texts must do. */
                bool reachable = namespace->fd >= 0 || namespace->inode == own_namespace();
                namespace->netlink = reachable ? sockdiag_open(namespace->fd) : -EPERM;
        }
        namespace->asked |= kinds;
        for (unsigned kind = 1; kind < SOCKET_ALL; kind <<= 1) {
                if (!(kinds & kind))
                        continue;
                if (namespace->netlink >= 0 &&
                    sockdiag_dump(namespace->netlink, ++namespace->requests, (enum socket_kind)kind, take, set) == 0)
                        continue;
                (void)netproc_read(namespace->pid, (enum socket_kind)kind, take, set);
        }
}

/* A socket may come from another namespace than its process is in now, most likely from ours (socket activation). */
static void ask_own(struct sockets *set) {
        uint64_t inode = own_namespace();
        unsigned kinds = 0;
        size_t own;

        for (size_t i = 0; i < set->n; i++)
                if (!set->items[i].found)
                        kinds |= set->items[i].kinds;
        if (kinds == 0)
                return;
        if (!find_namespace(set, inode, &own))
                own = add_namespace(set, inode, -EBADF, getpid());
        ask(set, &set->namespaces[own], kinds);
}

/* Asking about the first socket that is not known yet finds all others of its protocol as well. */
void sockets_resolve(struct sockets *set) {
        size_t vain = 0;

        for (size_t i = 0; i < set->n; i++) {
                struct socket *socket = &set->items[i];

                if (socket->found)
                        continue;
                if (vain++ == VAIN_MAX)
                        parallel_each(set->n - i, PARALLEL_STEP, read_protocols, socket);
                read_protocol(socket);
                ask(set, &set->namespaces[socket->namespace], socket->kinds);
        }
        ask_own(set);
}

bool socket_is_established(const struct socket *socket) {
        const struct socket_facts *facts = &socket->facts;

        if (facts->type != SOCK_STREAM || (facts->family != AF_INET && facts->family != AF_INET6))
                return false;
        /*
         * A connection that was reset is in no table any more, like a socket that never had one; CRIU wants the option
         * for the first, and does not mind it for the second.
         */
        return !socket->found || facts->state != TCP_LISTEN;
}

bool sockets_peer_is_outside(const struct sockets *set, const struct socket *socket) {
        const struct socket_facts *facts = &socket->facts;

        if (!socket->found || facts->family != AF_UNIX || !facts->connected)
                return false;
        /* Wrongly "outside" only lets CRIU accept more than it must; wrongly "inside" makes the dump fail. */
        if (facts->peer_unknown)
                return true;
        if (facts->peer != 0)
                return !idmap_get(&set->index, facts->peer);
        /*
         * A peer without an inode: closed (then a datagram socket is on its own, and a stream is shut down in both
         * directions), or a connection that waits at a listening socket, which may be ours.
         */
        if (facts->type == SOCK_DGRAM || facts->shut_down)
                return false;
        return !idmap_get(&set->pending, facts->inode);
}

const char *sockets_peer_name(const struct sockets *set, const struct socket *socket) {
        const size_t *index;

        if (socket->facts.peer == 0)
                return NULL;
        if ((index = idmap_get(&set->index, socket->facts.peer)))
                return set->items[*index].name;
        if ((index = idmap_get(&set->name_index, socket->facts.peer)))
                return set->names[*index];
        return NULL;
}

const char *socket_state_text(const struct socket *socket) {
        static const char *const states[] = {
                [TCP_ESTABLISHED] = "ESTABLISHED",
                [TCP_SYN_SENT] = "SYN_SENT",
                [TCP_SYN_RECV] = "SYN_RECV",
                [TCP_FIN_WAIT1] = "FIN_WAIT1",
                [TCP_FIN_WAIT2] = "FIN_WAIT2",
                [TCP_TIME_WAIT] = "TIME_WAIT",
                [TCP_CLOSE] = "CLOSE",
                [TCP_CLOSE_WAIT] = "CLOSE_WAIT",
                [TCP_LAST_ACK] = "LAST_ACK",
                [TCP_LISTEN] = "LISTEN",
                [TCP_CLOSING] = "CLOSING",
        };
        const struct socket_facts *facts = &socket->facts;
        bool tcp = facts->type == SOCK_STREAM && (facts->family == AF_INET || facts->family == AF_INET6);

        if (!socket->found || facts->state == 0 || facts->state == TCP_CLOSE)
                return tcp ? "CLOSE" : "NONE";
        if (facts->state >= ELEMENTSOF(states) || !states[facts->state])
                return tcp ? "CLOSE" : "NONE"; /* 13: bound, not connected (BOUND_INACTIVE) */
        return states[facts->state];
}

static void namespace_clear(struct sockets_namespace *namespace) {
        if (namespace->fd >= 0)
                close(namespace->fd);
        if (namespace->netlink >= 0)
                close(namespace->netlink);
}

void sockets_clear(struct sockets *set) {
        for (size_t i = 0; i < set->n; i++)
                free(set->items[i].name);
        for (size_t i = 0; i < set->n_names; i++)
                free(set->names[i]);
        for (size_t i = 0; i < set->n_namespaces; i++)
                namespace_clear(&set->namespaces[i]);
        free(set->items);
        free(set->names);
        free(set->namespaces);
        idmap_clear(&set->index);
        idmap_clear(&set->pending);
        idmap_clear(&set->name_index);
        *set = (struct sockets){ 0 };
}
