/* SPDX-License-Identifier: Apache-2.0 */

/* The sockets of a checkpoint. */

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/inspect_parts.h"
#include "process/sockets.h"

/** "127.0.0.1:80", "[::1]:80"; NULL: not an address. Port 0 is left out. */
static char *internet_address(const uint32_t *words, size_t n, uint32_t port) {
        char text[INET6_ADDRSTRLEN];
        int family = n == 1 ? AF_INET : AF_INET6;
        if ((n != 1 && n != 4) || !inet_ntop(family, words, text, sizeof(text)))
                return NULL;
        if (port == 0)
                return xstrdup(text);
        return xasprintf(family == AF_INET ? "%s:%u" : "[%s]:%u", text, port);
}

static bool is_zero(const uint32_t *words, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (words[i])
                        return false;
        return true;
}

static void fill_internet(struct inspect_socket *socket, const CriuImage__InetSk *isk) {
        socket->family = isk->family;
        socket->type = isk->type;
        socket->local = internet_address(isk->src_addr, isk->n_src_addr, isk->src_port);
        if (isk->dst_port != 0 || !is_zero(isk->dst_addr, isk->n_dst_addr))
                socket->remote = internet_address(isk->dst_addr, isk->n_dst_addr, isk->dst_port);
}

/** What a UNIX socket is bound to, as ss(8) writes it: "/path", "@abstract"; NULL: nothing. */
static char *unix_name(const CriuImage__UnixSk *usk) {
        size_t n = usk->name.len;
        if (n == 0)
                return NULL;
        char *name = xstrndup((const char *)usk->name.data, 0);
        name = xrealloc(name, n + 1, 1);
        memcpy(name, usk->name.data, n);
        name[n] = 0;
        bool abstract = name[0] == 0;
        while (!abstract && n > 0 && name[n - 1] == 0)
                n--;
        for (size_t i = 0; i < n; i++)
                if (name[i] == 0)
                        name[i] = '@';
        if (abstract || name[0] == '/' || isempty(usk->name_dir))
                return name;
        char *whole = xasprintf("%s%s%s", usk->name_dir, text_ends_with(usk->name_dir, "/") ? "" : "/", name);
        free(name);
        return whole;
}

static char *unix_address(const CriuImage__UnixSk *usk) {
        return unix_name(usk) ?: xasprintf("socket:[%u]", usk->ino);
}

static void fill_unix(struct inspect_socket *socket, const CriuImage__UnixSk *usk, const CriuImage__UnixSk *peer) {
        socket->family = AF_UNIX;
        socket->type = usk->type;
        socket->local = unix_address(usk);
        if (peer)
                socket->remote = unix_address(peer);
        else if (usk->peer != 0)
                socket->remote = xasprintf("socket:[%u]", usk->peer);
}

bool inspect_socket_from(const CriuImage__File *file, const CriuImage__UnixSk *peer, struct inspect_socket *socket) {
        uint32_t state = 0;
        *socket = (struct inspect_socket){ 0 };
        if (file->isk) {
                fill_internet(socket, file->isk);
                state = file->isk->state;
        } else if (file->usk) {
                fill_unix(socket, file->usk, peer);
                state = file->usk->state;
        } else if (file->nlsk) {
                socket->family = AF_NETLINK;
                socket->type = SOCK_RAW; /* the images do not tell it from SOCK_DGRAM, nor does the kernel */
                state = file->nlsk->state;
                socket->local = xasprintf("protocol %u, port %u", file->nlsk->protocol, file->nlsk->portid);
        } else if (file->psk) {
                socket->family = AF_PACKET;
                socket->type = file->psk->type;
                socket->local = xasprintf("protocol 0x%04x, interface %u", ntohs((uint16_t)file->psk->protocol),
                                          file->psk->ifindex);
        } else {
                return false;
        }
        struct socket known = { .found = true,
                                .facts = { .family = socket->family, .type = socket->type, .state = state } };
        socket->state = socket_state_text(&known);
        socket->established = file->isk && socket->type == SOCK_STREAM && streq(socket->state, "ESTABLISHED");
        return true;
}
