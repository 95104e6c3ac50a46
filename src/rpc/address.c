/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"

#define HOST_LIMIT 253 /* bytes of a name, RFC 1035 */
#define BACKLOG 128
#define CONNECT_SHARE_MS 10000 /* for an address that is not the last, without a deadline */

static int refuse(const char *text, struct st_error **err) {
        st_error_set(err, EINVAL, "'%s' is not a TCP address", text);
        st_error_hint(err, "write it as HOST:PORT, [IPV6]:PORT or, to listen everywhere, :PORT");
        return -EINVAL;
}

int rpc_address_parse(const char *text, struct rpc_address *ret, struct st_error **err) {
        const char *colon = strrchr(text, ':'), *host = text;
        size_t n = colon ? (size_t)(colon - text) : 0;
        uint64_t port;

        if (!colon || text_to_uint(colon + 1, 65535, &port) < 0)
                return refuse(text, err);
        if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
                host++;
                n -= 2;
                if (n == 0)
                        return refuse(text, err);
        } else if (memchr(host, ':', n) || memchr(host, '[', n) || memchr(host, ']', n))
                return refuse(text, err);
        if (n > HOST_LIMIT || memchr(host, '/', n) || memchr(host, ' ', n))
                return refuse(text, err);
        *ret = (struct rpc_address){ .host = xstrndup(host, n), .port = xstrdup(colon + 1) };
        return 0;
}

void rpc_address_clear(struct rpc_address *address) {
        free(address->host);
        free(address->port);
        *address = (struct rpc_address){ 0 };
}

static int resolve(const struct rpc_address *address, int flags, struct addrinfo **ret, struct st_error **err) {
        const struct addrinfo wanted = { .ai_flags = flags | AI_NUMERICSERV,
                                         .ai_family = AF_UNSPEC,
                                         .ai_socktype = SOCK_STREAM };
        int r = getaddrinfo(isempty(address->host) ? NULL : address->host, address->port, &wanted, ret);

        if (r == 0)
                return 0;
        if (r == EAI_SYSTEM)
                return st_error_errno(err, errno, "cannot find the host %s", address->host);
        return st_error_set(err, r == EAI_AGAIN ? EAGAIN : EHOSTUNREACH, "cannot find the host %s: %s", address->host,
                            gai_strerror(r));
}

static int listen_on(const struct addrinfo *info) {
        _cleanup_close_ int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int one = 1;

        if (fd < 0)
                return -errno;
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
                return -errno;
        /* IPv4 has a socket of its own, so that each address looks like what it is. */
        if (info->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0)
                return -errno;
        if (bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int rpc_address_listen(const struct rpc_address *address, int ret_fds[RPC_ADDRESS_FDS], struct st_error **err) {
        struct addrinfo *found = NULL;
        int n = 0, r = resolve(address, AI_PASSIVE, &found, err), problem = 0;

        if (r < 0)
                return r;
        for (const struct addrinfo *info = found; info && n < RPC_ADDRESS_FDS; info = info->ai_next) {
                r = listen_on(info);
                if (r >= 0)
                        ret_fds[n++] = r;
                /* A machine without IPv6 may still have it in its /etc/hosts. */
                else if (problem == 0 || (r != -EADDRNOTAVAIL && r != -EAFNOSUPPORT))
                        problem = r;
        }
        freeaddrinfo(found);
        if (n > 0 && (problem == 0 || problem == -EADDRNOTAVAIL || problem == -EAFNOSUPPORT))
                return n;
        while (n > 0)
                close(ret_fds[--n]);
        return st_error_errno(err, problem, "cannot listen at %s:%s", address->host, address->port);
}

int rpc_address_wait(int fd, int events, uint64_t end, int cancel_fd) {
        struct pollfd fds[] = { { .fd = fd, .events = (short)events },
                                { .fd = cancel_fd > 0 ? cancel_fd : -1, .events = POLLIN } };

        for (;;) {
                uint64_t now = clock_ms();
                int timeout = end == UINT64_MAX ? -1 : now >= end ? 0 : end - now > 60000 ? 60000 : (int)(end - now);
                int n = poll(fds, ELEMENTSOF(fds), timeout);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0 && fds[1].revents)
                        return -ECANCELED;
                if (n > 0)
                        return 0;
                if (n == 0 && clock_ms() >= end)
                        return -ETIMEDOUT;
        }
}

static int connect_to(const struct addrinfo *info, uint64_t end, int cancel_fd) {
        _cleanup_close_ int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int problem = 0, r;
        socklen_t size = sizeof(problem);

        if (fd < 0)
                return -errno;
        if (connect(fd, info->ai_addr, info->ai_addrlen) < 0) {
                if (errno != EINPROGRESS && errno != EINTR)
                        return -errno;
                r = rpc_address_wait(fd, POLLOUT, end, cancel_fd);
                if (r < 0)
                        return r;
                if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size) < 0)
                        return -errno;
                if (problem != 0)
                        return -problem;
        }
        return TAKE_FD(fd);
}

/** Nobody's fault but the way's: what another address answers tells more. */
static bool is_no_way(int number) {
        return number == -EAFNOSUPPORT || number == -EADDRNOTAVAIL || number == -ENETUNREACH || number == -EHOSTUNREACH;
}

/** One address that swallows everything must leave time for the others: each gets its share. */
static uint64_t share_end(uint64_t end, const struct addrinfo *info) {
        uint64_t now = clock_ms(), shares = 0;

        for (; info; info = info->ai_next)
                shares++;
        if (shares <= 1 || now >= end)
                return end;
        return end == UINT64_MAX ? now + CONNECT_SHARE_MS : now + (end - now) / shares;
}

/** Tries one address after the other. @return the socket, -ECANCELED, or what tells most of their failures */
static int connect_to_any(const struct addrinfo *info, uint64_t end, int cancel_fd) {
        int problem = -EHOSTUNREACH;

        for (; info; info = info->ai_next) {
                int r = connect_to(info, share_end(end, info), cancel_fd);

                if (r >= 0 || r == -ECANCELED)
                        return r;
                if (is_no_way(problem) || !is_no_way(r))
                        problem = r;
        }
        return problem;
}

int rpc_address_connect(const struct rpc_address *address, uint64_t end, int cancel_fd, struct st_error **err) {
        struct addrinfo *found = NULL;
        int r = resolve(address, 0, &found, err);

        if (r < 0)
                return r;
        r = connect_to_any(found, end, cancel_fd);
        freeaddrinfo(found);
        if (r == -ECANCELED)
                return st_error_set(err, ECANCELED, "cancelled");
        if (r == -ETIMEDOUT)
                return st_error_set(err, ETIMEDOUT, "%s:%s does not answer", address->host, address->port);
        if (r < 0)
                return st_error_errno(err, r, "cannot connect to %s:%s", address->host, address->port);
        rpc_address_keep_alive(r);
        return r;
}

void rpc_address_keep_alive(int fd) {
        static const struct {
                int level, name, value;
        } options[] = {
                { SOL_SOCKET, SO_KEEPALIVE, 1 },           { IPPROTO_TCP, TCP_KEEPIDLE, 60 },
                { IPPROTO_TCP, TCP_KEEPINTVL, 15 },        { IPPROTO_TCP, TCP_KEEPCNT, 4 },
                { IPPROTO_TCP, TCP_USER_TIMEOUT, 120000 }, { IPPROTO_TCP, TCP_NODELAY, 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(options); i++)
                (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(options[i].value));
}

static char *to_text(const struct sockaddr_storage *address, socklen_t size) {
        char host[NI_MAXHOST], port[NI_MAXSERV];

        if (getnameinfo((const struct sockaddr *)address, size, host, sizeof(host), port, sizeof(port),
                        NI_NUMERICHOST | NI_NUMERICSERV) != 0)
                return xstrdup("?");
        return strchr(host, ':') ? xasprintf("[%s]:%s", host, port) : xasprintf("%s:%s", host, port);
}

char *rpc_address_of_socket(int fd) {
        struct sockaddr_storage address;
        socklen_t size = sizeof(address);

        return getsockname(fd, (struct sockaddr *)&address, &size) < 0 ? xstrdup("?") : to_text(&address, size);
}

char *rpc_address_of_peer(int fd) {
        struct sockaddr_storage address;
        socklen_t size = sizeof(address);

        return getpeername(fd, (struct sockaddr *)&address, &size) < 0 ? xstrdup("?") : to_text(&address, size);
}
