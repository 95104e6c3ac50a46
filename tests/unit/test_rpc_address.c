/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "rpc/address.h"

/** What the next getaddrinfo() finds instead of asking: so many ports of 127.0.0.1, in that order. */
static struct {
        uint16_t ports[3];
        size_t n;
} found;

/* In the place of the C library's.
 * NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): its names are reserved */
int getaddrinfo(const char *restrict host, const char *restrict port, const struct addrinfo *restrict wanted,
                struct addrinfo **restrict ret) {
        struct addrinfo *next = NULL;

        for (size_t i = found.n > 0 ? found.n : 1; i > 0; i--) {
                uint16_t number = found.n > 0 ? found.ports[i - 1] : (uint16_t)strtoul(port, NULL, 10);
                struct addrinfo *info = xcalloc(1, sizeof(*info) + sizeof(struct sockaddr_in6));
                struct sockaddr_in6 *in6 = (void *)(info + 1);
                struct sockaddr_in *in = (void *)(info + 1);
                bool is_v6 = host && strchr(host, ':');

                if (is_v6)
                        *in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(number) };
                else
                        *in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(number) };
                assert_int_equal(
                        inet_pton(is_v6 ? AF_INET6 : AF_INET, host, is_v6 ? (void *)&in6->sin6_addr : &in->sin_addr),
                        1);
                info->ai_family = is_v6 ? AF_INET6 : AF_INET;
                info->ai_socktype = wanted->ai_socktype;
                info->ai_addr = (struct sockaddr *)(info + 1);
                info->ai_addrlen = is_v6 ? sizeof(*in6) : sizeof(*in);
                info->ai_next = next;
                next = info;
        }
        *ret = next;
        return 0;
}

void freeaddrinfo(struct addrinfo *info) {
        while (info) {
                struct addrinfo *next = info->ai_next;
                free(info);
                info = next;
        }
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

static void parses(void **state) {
        static const struct {
                const char *text, *host, *port;
        } good[] = {
                { "localhost:7000", "localhost", "7000" }, { "192.0.2.1:0", "192.0.2.1", "0" },
                { "[::1]:65535", "::1", "65535" },         { ":443", "", "443" },
                { "a-b.example:1", "a-b.example", "1" },
        };
        static const char *const bad[] = {
                "",      "localhost", "localhost:",       "localhost:65536", "localhost:-1", "h:80x",   "::1:80",
                "[::1]", "[]:80",     "/run/stasis.sock", "/run:80",         "a b:80",       "[::1:80", "h: 80"
        };
        _cleanup_free_ char *lengthy = xmalloc(300);

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                struct rpc_address address = { 0 };

                assert_int_equal(rpc_address_parse(good[i].text, &address, NULL), 0);
                assert_string_equal(address.host, good[i].host);
                assert_string_equal(address.port, good[i].port);
                rpc_address_clear(&address);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_error_ struct st_error *error = NULL;
                struct rpc_address address = { 0 };

                assert_int_equal(rpc_address_parse(bad[i], &address, &error), -EINVAL);
                assert_non_null(strstr(st_error_message(error), "HOST:PORT"));
        }
        memset(lengthy, 'a', 299);
        memcpy(lengthy + 296, ":1", 3);
        assert_int_equal(rpc_address_parse(lengthy, &(struct rpc_address){ 0 }, NULL), -EINVAL);
}

static void round_trip(const char *text, const char *prefix) {
        struct rpc_address address = { 0 }, there = { 0 };
        int fds[RPC_ADDRESS_FDS];

        assert_int_equal(rpc_address_parse(text, &address, NULL), 0);
        assert_int_equal(rpc_address_listen(&address, fds, NULL), 1);
        _cleanup_close_ int listener = fds[0];
        _cleanup_free_ char *where = rpc_address_of_socket(listener);
        assert_non_null(text_after(where, prefix));

        assert_int_equal(rpc_address_parse(where, &there, NULL), 0);
        _cleanup_close_ int client = rpc_address_connect(&there, clock_ms() + 5000, -1, NULL);
        assert_true(client >= 0);
        _cleanup_close_ int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(accepted >= 0);
        _cleanup_free_ char *peer = rpc_address_of_peer(accepted), *own = rpc_address_of_socket(client);
        assert_string_equal(peer, own);
        rpc_address_clear(&address);
        rpc_address_clear(&there);
}

static void listens_and_connects(void **state) {
        (void)state;
        round_trip("127.0.0.1:0", "127.0.0.1:");
        if (access("/proc/net/if_inet6", F_OK) == 0)
                round_trip("[::1]:0", "[::1]:");
}

static void failures_say_where(void **state) {
        _cleanup_error_ struct st_error *refused = NULL, *taken = NULL;
        struct rpc_address address = { 0 }, there = { 0 };
        int fds[RPC_ADDRESS_FDS], others[RPC_ADDRESS_FDS];

        (void)state;
        assert_int_equal(rpc_address_parse("127.0.0.1:0", &address, NULL), 0);
        assert_int_equal(rpc_address_listen(&address, fds, NULL), 1);
        _cleanup_free_ char *where = rpc_address_of_socket(fds[0]);
        assert_int_equal(rpc_address_parse(where, &there, NULL), 0);
        assert_int_equal(rpc_address_listen(&there, others, &taken), -EADDRINUSE);
        assert_non_null(strstr(st_error_message(taken), where));
        close(fds[0]);
        assert_int_equal(rpc_address_connect(&there, UINT64_MAX, -1, &refused), -ECONNREFUSED);
        assert_non_null(strstr(st_error_message(refused), where));
        rpc_address_clear(&address);
        rpc_address_clear(&there);
}

static uint16_t port_of(int fd) {
        struct sockaddr_in address = { 0 };
        socklen_t size = sizeof(address);

        assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
        return ntohs(address.sin_port);
}

static int listener_on_loopback(int backlog) {
        const struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (const struct sockaddr *)&any, sizeof(any)), 0);
        assert_int_equal(listen(fd, backlog), 0);
        return fd;
}

/** A port that answers nobody: its queue is full. */
static int silent_listener(int clients[4]) {
        int fd = listener_on_loopback(0);
        struct sockaddr_in address;
        socklen_t size = sizeof(address);

        assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
        for (size_t i = 0; i < 4; i++) {
                clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                (void)connect(clients[i], (struct sockaddr *)&address, size);
        }
        return fd;
}

static void every_address_is_tried(void **state) {
        struct rpc_address address = { .host = (char *)"127.0.0.1", .port = (char *)"1" };
        int clients[4], closed = listener_on_loopback(1), silent = silent_listener(clients);
        _cleanup_close_ int open = listener_on_loopback(8);
        const uint16_t refusing = port_of(closed);
        _cleanup_error_ struct st_error *error = NULL;

        (void)state;
        close(closed);
        found.n = 3;
        found.ports[0] = refusing;
        found.ports[1] = port_of(silent);
        found.ports[2] = port_of(open);
        _cleanup_close_ int fd = rpc_address_connect(&address, clock_ms() + 1500, -1, NULL);
        assert_true(fd >= 0);
        _cleanup_close_ int accepted = accept4(open, NULL, NULL, SOCK_CLOEXEC);
        assert_true(accepted >= 0);

        /* Of several failures the last is told, whatever the time. */
        found.ports[2] = refusing;
        assert_int_equal(rpc_address_connect(&address, clock_ms() + 600, -1, &error), -ECONNREFUSED);
        found.n = 0;
        for (size_t i = 0; i < 4; i++)
                close(clients[i]);
        close(silent);
}

static void waits_can_end(void **state) {
        int pair[2], cancel[2];

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        assert_int_equal(pipe(cancel), 0);
        assert_int_equal(rpc_address_wait(pair[0], 1 /* POLLIN */, clock_ms() + 20, cancel[0]), -ETIMEDOUT);
        close(cancel[1]);
        assert_int_equal(rpc_address_wait(pair[0], 1, UINT64_MAX, cancel[0]), -ECANCELED);
        assert_int_equal(write(pair[1], "x", 1), 1);
        assert_int_equal(rpc_address_wait(pair[0], 1, 0, -1), 0);
        close(cancel[0]);
        close(pair[0]);
        close(pair[1]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(parses),
                cmocka_unit_test(listens_and_connects),
                cmocka_unit_test(failures_say_where),
                cmocka_unit_test(every_address_is_tried),
                cmocka_unit_test(waits_can_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
