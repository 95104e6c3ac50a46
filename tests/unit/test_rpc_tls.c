/* SPDX-License-Identifier: Apache-2.0 */

/* Mutual TLS: who is let in, what is said to those who are not, and that nobody is held up by them. */

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/path.h"
#include "base/spawn.h"
#include "rpc/address.h"
#include "rpc/client.h"
#include "rpc_sample.h"

#define DUMP "/daemon.Daemon/Dump"

static char directory[] = "/tmp/test_rpc_tls.XXXXXX";
static struct rpc_tls *server_tls;
static char *server_address, *server_address6;

static char *file(const char *name, const char *suffix) {
        return xasprintf("%s/%s%s", directory, name, suffix);
}

/* Loads NAME.pem and NAME.key, to trust CA.pem. */
static int load(const char *name, const char *ca, bool server, struct rpc_tls **ret, struct st_error **err) {
        _cleanup_free_ char *cert = file(name, ".pem"), *key = file(name, ".key"), *trusted = file(ca, ".pem");
        const struct rpc_tls_files files = { .cert = cert, .key = key, .ca = trusted };

        return rpc_tls_new(&files, server, ret, err);
}

static void identify(struct rpc_peer *peer, void *userdata) {
        (void)userdata;
        if (peer->name && streq(peer->name, "ops"))
                peer->uid = 0;
}

static char *listen_tls(struct sample *sample, const char *text) {
        struct rpc_address address = { 0 };
        int fds[RPC_ADDRESS_FDS];
        char *where;

        if (rpc_address_parse(text, &address, NULL) < 0 || rpc_address_listen(&address, fds, NULL) != 1)
                abort();
        rpc_address_clear(&address);
        where = rpc_address_of_socket(fds[0]);
        if (rpc_server_listen_tls(sample->server, fds[0], server_tls, identify, NULL, NULL) < 0)
                abort();
        return where;
}

static int listen_all(struct sample *sample) {
        server_address = listen_tls(sample, "127.0.0.1:0");
        if (access("/proc/net/if_inet6", F_OK) == 0)
                server_address6 = listen_tls(sample, "[::1]:0");
        return 0;
}

static int make_certificates(void **state) {
        const char *source = getenv("STASIS_SOURCE");
        _cleanup_free_ char *program = path_join(source ?: ".", "tests/make-certificates");
        char *const argv[] = { program, directory, NULL };
        const struct spawn spawn = { .path = program, .argv = argv };

        (void)state;
        (void)signal(SIGPIPE, SIG_IGN);
        if (!mkdtemp(directory) || spawn_run(&spawn, 30000, NULL, NULL) != 0)
                return -1;
        return load("server", "ca", true, &server_tls, NULL);
}

static int remove_certificates(void **state) {
        (void)state;
        rpc_tls_free(server_tls);
        return io_remove_tree(directory);
}

static int setup(void **state) {
        sample_listen = listen_all;
        *state = sample_start(NULL);
        return 0;
}

static int teardown(void **state) {
        sample_stop(*state);
        free(server_address);
        free(server_address6);
        server_address = server_address6 = NULL;
        return 0;
}

static int connect_as(const char *name, const char *ca, const char *address, struct rpc_client **ret,
                      struct st_error **err) {
        _cleanup_(rpc_tls_freep) struct rpc_tls *tls = NULL;

        assert_int_equal(load(name, ca, false, &tls, NULL), 0);
        return rpc_client_connect_tls(address, tls, 5000, -1, ret, err);
}

static struct rpc_client *connected(const char *name, const char *address) {
        struct rpc_client *client = NULL;
        struct st_error *error = NULL;

        if (connect_as(name, "ca", address, &client, &error) < 0)
                fail_msg("%s", st_error_message(error));
        return client;
}

/* The first message that a Dump of that name is answered with; malloc'ed. */
static char *dump(struct rpc_client *client, const char *name) {
        Daemon__DumpReq req = DAEMON__DUMP_REQ__INIT;
        Daemon__DumpResp *resp = NULL;
        char *text;

        req.name = (char *)name;
        assert_int_equal(rpc_client_call(client, DUMP, &req.base, &daemon__dump_resp__descriptor, NULL, &resp, NULL),
                         0);
        text = xstrdup(resp->messages[0]);
        daemon__dump_resp__free_unpacked(resp, NULL);
        return text;
}

static void assert_serves(const char *name, const char *address, const char *expected) {
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(name, address);
        _cleanup_free_ char *text = dump(client, "peer");

        assert_string_equal(text, expected);
}

static void peers_are_who_their_certificate_says(void **state) {
        (void)state;
        assert_serves("ops", server_address, "0 65534 0 0 " DUMP " ops");
        assert_serves("bob", server_address, "65534 65534 0 0 " DUMP " bob");
        assert_serves("nameless", server_address, "65534 65534 0 0 " DUMP);
        /* Which of two names counts is nothing to guess. */
        assert_serves("twonames", server_address, "65534 65534 0 0 " DUMP);
        if (server_address6)
                assert_serves("ops", server_address6, "0 65534 0 0 " DUMP " ops");
}

static void large_messages(void **state) {
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected("ops", server_address);
        Daemon__QueryReq req = DAEMON__QUERY_REQ__INIT;
        Daemon__QueryResp *resp = NULL;
        _cleanup_free_ char *large = xmalloc(3000001), *back = NULL;
        uint32_t pids[4000] = { 0 };

        (void)state;
        memset(large, 'x', 3000000);
        large[3000000] = '\0';
        back = dump(client, large);
        assert_string_equal(back, large);

        req.n_pids = ELEMENTSOF(pids);
        req.pids = pids;
        assert_int_equal(rpc_client_call(client, "/daemon.Daemon/Query", &req.base, &daemon__query_resp__descriptor,
                                         NULL, &resp, NULL),
                         0);
        assert_int_equal(resp->n_messages, ELEMENTSOF(pids));
        daemon__query_resp__free_unpacked(resp, NULL);
}

static void assert_refused(const char *name, const char *ca, const char *address, const char *part) {
        _cleanup_error_ struct st_error *error = NULL;
        struct rpc_client *client = NULL;

        assert_int_equal(connect_as(name, ca, address, &client, &error), -EACCES);
        if (!strstr(st_error_message(error), part) || !strstr(st_error_message(error), address))
                fail_msg("'%s' does not say '%s'", st_error_message(error), part);
}

static void certificates_that_do_not_do(void **state) {
        (void)state;
        assert_refused("stranger", "ca", server_address, "refuses our certificate: not signed by a CA that it knows");
        assert_refused("self", "ca", server_address, "not signed by a CA");
        assert_refused("only-server", "ca", server_address, "not made for this purpose");
        /* The other way round: the client does not know who signed the server's. */
        assert_refused("stranger", "other-ca", server_address, "its certificate is not acceptable");
        assert_serves("ops", server_address, "0 65534 0 0 " DUMP " ops");
}

static void a_server_with_another_name(void **state) {
        _cleanup_(rpc_tls_freep) struct rpc_tls *elsewhere = NULL;
        struct rpc_tls *usual = server_tls;

        (void)state;
        assert_int_equal(load("elsewhere", "ca", true, &elsewhere, NULL), 0);
        server_tls = elsewhere;
        struct sample *sample = NULL;
        assert_int_equal(setup((void **)&sample), 0);
        assert_refused("ops", "ca", server_address, "mismatch");
        assert_int_equal(teardown((void **)&sample), 0);
        server_tls = usual;
}

static int raw_connect(void) {
        struct rpc_address address = { 0 };
        int fd;

        assert_int_equal(rpc_address_parse(server_address, &address, NULL), 0);
        fd = rpc_address_connect(&address, clock_ms() + 5000, -1, NULL);
        rpc_address_clear(&address);
        assert_true(fd >= 0);
        return fd;
}

/* Whoever does not speak TLS gets an alert at most, and the end. */
static void plain_clients_get_nothing(void **state) {
        static const char *const said[] = { "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
                                            "\x16\x03\x01", "\0\0\0\0\0\0\0\0" };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(said); i++) {
                _cleanup_close_ int fd = raw_connect();
                char buffer[64];
                ssize_t n, all = 0;

                assert_true(write(fd, said[i], i == 3 ? 8 : strlen(said[i])) > 0);
                (void)shutdown(fd, SHUT_WR);
                (void)io_set_nonblocking(fd, false);
                while ((n = read(fd, buffer, sizeof(buffer))) > 0)
                        all += n;
                assert_in_range(all, 0, 7);
        }
        assert_serves("ops", server_address, "0 65534 0 0 " DUMP " ops");
}

/* More connections that say nothing, or only begin to, than there is room for. */
static void stalled_handshakes_hold_up_nobody(void **state) {
        int fds[300];

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
                fds[i] = raw_connect();
                if (i % 2)
                        assert_int_equal(write(fds[i], "\x16\x03\x01\x02", 4), 4);
                if (i % 50 == 49)
                        assert_serves("ops", server_address, "0 65534 0 0 " DUMP " ops");
        }
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                close(fds[i]);
}

/* Those from afar get half of the connections, however many they want: the rest is for this machine. */
static void local_clients_have_room(void **state) {
        const struct rpc_server_options options = { .max_connections = 4 };
        struct rpc_client *clients[2], *third = NULL, *local[2];
        struct sample *sample;

        (void)state;
        sample_listen = listen_all;
        sample = sample_start(&options);
        for (size_t i = 0; i < 2; i++)
                clients[i] = connected("bob", server_address);
        assert_true(connect_as("bob", "ca", server_address, &third, NULL) < 0);
        for (size_t i = 0; i < 2; i++) {
                _cleanup_free_ char *text = NULL;

                assert_int_equal(rpc_client_connect(sample->path, 1000, &local[i], NULL), 0);
                text = dump(local[i], "hello");
                assert_string_equal(text, "hello");
        }
        for (size_t i = 0; i < 2; i++) {
                rpc_client_free(clients[i]);
                rpc_client_free(local[i]);
        }
        assert_int_equal(teardown((void **)&sample), 0);
}

static int admit_root(const struct rpc_call *call, void *userdata, struct st_error **err) {
        (void)userdata;
        return rpc_call_peer(call)->uid == 0 ? 0 : st_error_set(err, EPERM, "%s is not for you", rpc_call_method(call));
}

static int listen_admitting(struct sample *sample) {
        rpc_server_set_admission(sample->server, admit_root, NULL);
        return listen_all(sample);
}

static void only_who_is_admitted_may_call(void **state) {
        static const char *const methods[] = { DUMP, "/stasis.v1.Stasis/Dump", "/daemon.Daemon/Attach" };
        Daemon__DumpReq req = DAEMON__DUMP_REQ__INIT;
        Daemon__Empty empty = DAEMON__EMPTY__INIT;
        struct sample *sample;

        (void)state;
        sample_listen = listen_admitting;
        sample = sample_start(NULL);
        assert_serves("ops", server_address, "0 65534 0 0 " DUMP " ops");
        struct rpc_client *client = connected("bob", server_address);
        for (size_t i = 0; i < ELEMENTSOF(methods); i++) {
                _cleanup_error_ struct st_error *error = NULL;
                enum rpc_code code = RPC_OK;
                const struct rpc_options options = { .code = &code };

                assert_int_equal(rpc_client_call(client, methods[i], &req.base, &daemon__dump_resp__descriptor,
                                                 &options, NULL, &error),
                                 -EPERM);
                assert_int_equal(code, RPC_PERMISSION_DENIED);
                assert_non_null(strstr(st_error_message(error), methods[i]));
        }
        assert_int_equal(rpc_client_call(client, "/grpc.health.v1.Health/Check", &empty.base,
                                         &daemon__empty__descriptor, NULL, NULL, NULL),
                         0);
        rpc_client_free(client);
        assert_int_equal(sample->started, 0);
        assert_int_equal(teardown((void **)&sample), 0);
}

static void a_drain_does_not_wait_for_handshakes(void **state) {
        struct sample *sample = *state;
        _cleanup_close_ int fd = raw_connect();
        char byte;

        assert_int_equal(write(fd, "\x16", 1), 1);
        assert_serves("ops", server_address, "0 65534 0 0 " DUMP " ops");
        sample_wake(sample, 2);
        assert_true(sample_reaches(&sample->drained, 1));
        (void)io_set_nonblocking(fd, false);
        assert_true(read(fd, &byte, 1) <= 0);
}

static void a_server_that_says_nothing(void **state) {
        _cleanup_error_ struct st_error *error = NULL, *stopped = NULL;
        _cleanup_(rpc_tls_freep) struct rpc_tls *tls = NULL;
        struct rpc_address address = { 0 };
        struct rpc_client *client = NULL;
        int fds[RPC_ADDRESS_FDS], cancel[2];

        (void)state;
        assert_int_equal(load("ops", "ca", false, &tls, NULL), 0);
        assert_int_equal(rpc_address_parse("127.0.0.1:0", &address, NULL), 0);
        assert_int_equal(rpc_address_listen(&address, fds, NULL), 1);
        _cleanup_free_ char *where = rpc_address_of_socket(fds[0]);
        assert_int_equal(rpc_client_connect_tls(where, tls, 100, -1, &client, &error), -ETIMEDOUT);
        assert_int_equal(pipe(cancel), 0);
        close(cancel[1]);
        assert_int_equal(rpc_client_connect_tls(where, tls, 0, cancel[0], &client, &stopped), -ECANCELED);
        close(cancel[0]);
        close(fds[0]);
        rpc_address_clear(&address);
}

static void assert_unusable(const struct rpc_tls_files *files, int number, const char *part) {
        _cleanup_error_ struct st_error *error = NULL;
        struct rpc_tls *tls = NULL;

        assert_int_equal(rpc_tls_new(files, true, &tls, &error), number);
        if (!strstr(st_error_message(error), part))
                fail_msg("'%s' does not say '%s'", st_error_message(error), part);
}

static void files_that_do_not_do(void **state) {
        _cleanup_free_ char *cert = file("ops", ".pem"), *key = file("ops", ".key"), *ca = file("ca", ".pem");
        _cleanup_free_ char *other = file("bob", ".key"), *old = file("expired", ".pem");
        _cleanup_free_ char *old_key = file("expired", ".key"), *absent = file("absent", ".pem");
        _cleanup_free_ char *locked = file("locked", ".key"), *empty = file("empty", ".pem");
        static const char encrypted[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
                                        "MIGwMBsGCSqGSIb3DQEFAzAOBAiuzP1m2bbYaQICCAAEgZBhXoSBoUV4KaBFoEkT\n"
                                        "-----END ENCRYPTED PRIVATE KEY-----\n";

        (void)state;
        assert_unusable(&(struct rpc_tls_files){ .key = key, .ca = ca }, -EINVAL, "TLS.Cert is not set");
        assert_unusable(&(struct rpc_tls_files){ .cert = cert, .ca = ca }, -EINVAL, "TLS.Key is not set");
        assert_unusable(&(struct rpc_tls_files){ .cert = cert, .key = key, .ca = "" }, -EINVAL, "TLS.CA is not set");
        assert_unusable(&(struct rpc_tls_files){ absent, key, ca }, -ENOENT, absent);
        assert_unusable(&(struct rpc_tls_files){ directory, key, ca }, -EINVAL, "not a regular file");
        assert_unusable(&(struct rpc_tls_files){ key, key, ca }, -EBADMSG, "TLS.Cert: no certificate");
        assert_unusable(&(struct rpc_tls_files){ cert, cert, ca }, -EBADMSG, "TLS.Key: no private key");
        assert_unusable(&(struct rpc_tls_files){ cert, key, key }, -EBADMSG, "TLS.CA: no certificate");
        assert_unusable(&(struct rpc_tls_files){ cert, other, ca }, -EINVAL, "does not belong to");
        assert_unusable(&(struct rpc_tls_files){ old, old_key, ca }, -EKEYEXPIRED, "has expired");

        assert_int_equal(io_replace_file(empty, "", 0, 0600, false), 0);
        assert_unusable(&(struct rpc_tls_files){ cert, key, empty }, -EBADMSG, "TLS.CA");
        assert_int_equal(io_replace_file(locked, encrypted, strlen(encrypted), 0600, false), 0);
        assert_unusable(&(struct rpc_tls_files){ cert, locked, ca }, -EBADMSG, "TLS.Key");

        assert_int_equal(chmod(key, 0640), 0);
        assert_unusable(&(struct rpc_tls_files){ cert, key, ca }, -EPERM, "readable by nobody but");
        assert_int_equal(chmod(key, 0600), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(peers_are_who_their_certificate_says),
                TEST(large_messages),
                TEST(certificates_that_do_not_do),
                cmocka_unit_test(a_server_with_another_name),
                TEST(plain_clients_get_nothing),
                TEST(stalled_handshakes_hold_up_nobody),
                cmocka_unit_test(local_clients_have_room),
                cmocka_unit_test(only_who_is_admitted_may_call),
                TEST(a_drain_does_not_wait_for_handshakes),
                cmocka_unit_test(a_server_that_says_nothing),
                cmocka_unit_test(files_that_do_not_do),
        };

        return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
