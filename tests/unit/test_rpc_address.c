/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
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
                cmocka_unit_test(waits_can_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
