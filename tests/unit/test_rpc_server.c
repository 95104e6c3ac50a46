/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <health/health.pb-c.h>

#include "rpc/client.h"
#include "rpc/grpc.h"
#include "rpc_raw.h"
#include "rpc_sample.h"

#define DUMP "/daemon.Daemon/Dump"

static int setup(void **state) {
        *state = sample_start(NULL);
        return 0;
}

static int teardown(void **state) {
        sample_stop(*state);
        return 0;
}

static struct rpc_client *connected(struct sample *sample) {
        struct rpc_client *client = NULL;

        assert_int_equal(rpc_client_connect(sample->path, 1000, &client, NULL), 0);
        return client;
}

/* Calls Dump with a name. @return the result; the first message of the answer in *ret */
static int dump(struct rpc_client *client, const char *name, const struct rpc_options *options, char **ret,
                struct st_error **err) {
        Daemon__DumpReq req = DAEMON__DUMP_REQ__INIT;
        Daemon__DumpResp *resp = NULL;
        int r;

        req.name = (char *)name;
        r = rpc_client_call(client, DUMP, &req.base, &daemon__dump_resp__descriptor, options, &resp, err);
        if (ret)
                *ret = resp && resp->n_messages > 0 ? xstrdup(resp->messages[0]) : NULL;
        if (resp)
                daemon__dump_resp__free_unpacked(resp, NULL);
        return r;
}

static void test_unary(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        struct rpc_metadata trailers = {};
        struct rpc_options options = { .trailers = &trailers };

        for (unsigned i = 0; i < 20; i++) { /* one connection serves one call after the other */
                _cleanup_free_ char *text = NULL;

                assert_int_equal(dump(client, "hello", &options, &text, NULL), 0);
                assert_string_equal(text, "hello");
                assert_int_equal(trailers.n, 2);
                assert_int_equal(rpc_metadata_get(&trailers, "stasis-profile-bin")->size, 3);
                assert_memory_equal(rpc_metadata_get(&trailers, "stasis-profile-bin")->value, "\0\1\377", 3);
                assert_string_equal((char *)rpc_metadata_get(&trailers, "stasis-note")->value, "plain");
                rpc_metadata_clear(&trailers);
        }
}

static void test_peer(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        _cleanup_free_ char *text = NULL;
        char expected[100];

        assert_int_equal(dump(client, "peer", NULL, &text, NULL), 0);
        snprintf(expected, sizeof(expected), "%d %d %d %d " DUMP, (int)getuid(), (int)getgid(), (int)getpid(),
                 getgroups(0, NULL));
        assert_string_equal(text, expected);
}

static void test_health(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        Daemon__Empty empty = DAEMON__EMPTY__INIT, *resp = NULL;

        assert_int_equal(rpc_client_call(client, "/grpc.health.v1.Health/Check", &empty.base,
                                         &daemon__empty__descriptor, NULL, &resp, NULL),
                         0);
        assert_int_equal(resp->base.n_unknown_fields, 1);
        assert_int_equal(resp->base.unknown_fields[0].tag, 1);
        assert_int_equal(resp->base.unknown_fields[0].len, 1);
        assert_int_equal(resp->base.unknown_fields[0].data[0], 1);
        daemon__empty__free_unpacked(resp, NULL);
}

static void test_health_of_services(void **state) {
        static const struct {
                const char *service;
                int result;
        } rows[] = {
                { "daemon.Daemon", 0 },         { "stasis.v1.Stasis", 0 },     { "grpc.health.v1.Health", 0 },
                { "no.such.Service", -ENOENT }, { "daemon.Daemon/", -ENOENT }, { "daemon", -ENOENT },
        };
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                Grpc__Health__V1__HealthCheckRequest req = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
                _cleanup_error_ struct st_error *error = NULL;

                req.service = (char *)rows[i].service;
                assert_int_equal(rpc_client_call(client, "/grpc.health.v1.Health/Check", &req.base,
                                                 &grpc__health__v1__health_check_response__descriptor, NULL, NULL,
                                                 &error),
                                 rows[i].result);
        }
}

static void test_error(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        _cleanup_error_ struct st_error *error = NULL;
        enum rpc_code code = RPC_OK;
        struct rpc_options options = { .code = &code };
        struct raw_request request = { .body = "\0\0\0\0\7\x1a\5error", .n = 12 };
        struct raw_stream raw = raw_call(sample->path, &request);

        assert_int_equal(dump(client, "error", &options, NULL, &error), -ENOENT);
        assert_int_equal(code, RPC_NOT_FOUND);
        assert_non_null(strstr(st_error_message(error), "nämlich 100% keiner"));
        assert_int_equal(raw.http_status, 200);
        assert_int_equal(raw.grpc_status, RPC_NOT_FOUND);
        assert_int_equal(raw.headers, 1);
        assert_non_null(strstr(raw.message, "n%C3%A4mlich 100%25 keiner"));
        for (const char *p = raw.message; *p; p++)
                assert_in_range(*p, 0x20, 0x7e);
}

static void test_unimplemented(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        static const char *const methods[] = { "/daemon.Daemon/Run", "/daemon.Daemon/Nothing", "/no.Service/Dump",
                                               "/daemon.Daemon",     "/daemon.DaemonX/Dump",   "/x" };
        Daemon__Empty empty = DAEMON__EMPTY__INIT;

        for (size_t i = 0; i < ELEMENTSOF(methods); i++) {
                _cleanup_error_ struct st_error *error = NULL;

                assert_int_equal(rpc_client_call(client, methods[i], &empty.base, &daemon__empty__descriptor, NULL,
                                                 NULL, &error),
                                 -EOPNOTSUPP);
                assert_non_null(strstr(st_error_message(error), methods[i]));
        }
}

static void test_not_utf8(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        _cleanup_free_ char *text = NULL;

        assert_int_equal(dump(client, "bytes", NULL, &text, NULL), 0);
        assert_string_equal(text, "caf? ?");
}

/* A unary handler that sends nothing breaks the contract, but the wire form of success stays headers and trailers. */
static void test_nothing(void **state) {
        struct sample *sample = *state;
        struct raw_request request = { .body = "\0\0\0\0\x9\x1a\7nothing", .n = 14 };
        struct raw_stream raw = raw_call(sample->path, &request);
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);

        assert_int_equal(raw.grpc_status, RPC_OK);
        assert_int_equal(raw.http_status, 200);
        assert_int_equal(dump(client, "nothing", NULL, NULL, NULL), -EPROTO);
}

static void test_large(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        _cleanup_free_ char *name = malloc(5000001);
        _cleanup_free_ char *text = NULL;
        Daemon__QueryReq req = DAEMON__QUERY_REQ__INIT;
        Daemon__QueryResp *resp = NULL;

        memset(name, 'n', 5000000);
        name[5000000] = '\0';
        assert_int_equal(dump(client, name, NULL, &text, NULL), 0); /* 5 MB there and back */
        assert_string_equal(text, name);
        req.n_pids = 8000;
        req.pids = calloc(req.n_pids, sizeof(*req.pids));
        assert_int_equal(rpc_client_call(client, "/daemon.Daemon/Query", &req.base, &daemon__query_resp__descriptor,
                                         NULL, &resp, NULL),
                         0);
        assert_int_equal(resp->n_messages, 8000);
        daemon__query_resp__free_unpacked(resp, NULL);
        free(req.pids);
}

static void test_response_limit(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        struct rpc_options options = { .message_limit = 10 };

        assert_int_equal(dump(client, "longer than ten bytes", &options, NULL, NULL), -EMSGSIZE);
        assert_int_equal(dump(client, "hello", NULL, NULL, NULL), 0); /* the connection is still good */
}

static void test_concurrent(void **state) {
        struct sample *sample = *state;
        struct raw *raw = raw_open(sample->path);
        static struct raw_request requests[250];

        for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                requests[i] = (struct raw_request){ .body = "\0\0\0\0\6\x1a\4late", .n = 11 };
                raw_submit(raw, requests + i);
        }
        raw_run(raw, 3000);
        for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                assert_int_equal(raw->streams[i].grpc_status, 0);
                assert_int_equal(raw->streams[i].headers, 2);
                assert_true(raw->streams[i].received > GRPC_PREFIX_SIZE);
        }
        raw_close(raw);
        assert_int_equal(sample->finished, 250);
        assert_int_equal(sample->cancelled, 0);
}

struct refusal {
        struct raw_request request;
        int http_status, grpc_status;
        const char *text;
};

static void test_refusals(void **state) {
        struct sample *sample = *state;
        static char many[17000];
        struct refusal rows[] = {
                { { .content_type = "text/plain" }, 415, 13, "content-type" },
                { { .content_type = "application/grpc-web" }, 415, 13, "content-type" },
                { { .content_type = RAW_NONE }, 415, 13, "content-type" },
                { { .method = "PUT" }, 405, 13, "POST" },
                { { .te = RAW_NONE }, 400, 13, "te: trailers" },
                { { .timeout = "10" }, 200, 3, "grpc-timeout" },
                { { .timeout = "123456789S" }, 200, 3, "grpc-timeout" },
                { { .timeout = "0n" }, 200, 4, "deadline" },
                { { .extra = many }, 200, 8, "headers" },
                { { .body = "\1\0\0\0\0", .n = 5 }, 200, 12, "compressed" },
                { { .body = "\7\0\0\0\0", .n = 5 }, 200, 13, "flags" },
                { { .body = "\0\1\0\0\1", .n = 5 }, 200, 8, "16777217" },
                { { .body = "\0\xff\xff\xff\xff", .n = 5, .keep_open = true }, 200, 8, "4294967295" },
                { { .body = "\0\0\0\0\0\0\0\0\0\0", .n = 10 }, 200, 13, "more than one" },
                { { .body = "\0\0\0\0\3\xff\xff\xff", .n = 8 }, 200, 3, "daemon.DumpReq" },
                { { .body = "\0\0\0\0\5\x1a", .n = 6 }, 200, 13, "middle of a message" },
                { { .body = "\0\0", .n = 2 }, 200, 13, "middle of a message" },
                { { .n = 0 }, 200, 13, "no message" },
        };

        memset(many, 'h', sizeof(many) - 1);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct raw_stream stream = raw_call(sample->path, &rows[i].request);

                assert_int_equal(stream.http_status, rows[i].http_status);
                assert_int_equal(stream.grpc_status, rows[i].grpc_status);
                assert_non_null(strstr(stream.message, rows[i].text));
                assert_true(stream.closed);
                assert_int_equal(stream.code, NGHTTP2_NO_ERROR);
                if (rows[i].grpc_status == RPC_UNIMPLEMENTED)
                        assert_string_equal(stream.encoding, "identity");
        }
}

static void test_accepted_forms(void **state) {
        struct sample *sample = *state;
        struct raw_request requests[] = {
                { .body = "\0\0\0\0\6\x1a\4abcd", .n = 11, .content_type = "application/grpc+proto" },
                { .body = "\0\0\0\0\6\x1a\4abcd", .n = 11, .content_type = "application/grpc;x=y" },
                { .body = "\0\0\0\0\6\x1a\4abcd", .n = 11, .timeout = "1H" },
                { .body = "\0\0\0\0\6\x1a\4abcd", .n = 11, .timeout = "99999999H" },
        };

        for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                struct raw_stream stream = raw_call(sample->path, requests + i);
                assert_int_equal(stream.grpc_status, 0);
                assert_int_equal(stream.code, NGHTTP2_NO_ERROR);
        }
}

static void test_not_http2(void **state) {
        struct sample *sample = *state;
        char buffer[1000];
        int fd = io_connect_unix(sample->path);
        ssize_t n;

        assert_true(fd >= 0);
        assert_int_equal(io_write_full(fd, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35), 0);
        while ((n = read(fd, buffer, sizeof(buffer))) > 0)
                continue;
        assert_true(n == 0 || errno == ECONNRESET);
        close(fd);
}

static void test_client_gone(void **state) {
        struct sample *sample = *state;
        struct raw *raw = raw_open(sample->path);
        struct raw_request requests[2] = { { .body = "\0\0\0\0\6\x1a\4slow", .n = 11 },
                                           { .body = "\0\0\0\0\6\x1a\4slow", .n = 11 } };

        raw_submit(raw, requests);
        raw_submit(raw, requests + 1);
        raw_run(raw, 20);
        assert_true(sample_reaches(&sample->started, 2));
        assert_int_equal(sample->cancelled, 0);
        raw_close(raw);
        assert_true(sample_reaches(&sample->cancelled, 2));
        assert_int_equal(sample->reason, -ECONNRESET);
        assert_true(sample_reaches(&sample->finished, 2));
}

static void test_reset(void **state) {
        struct sample *sample = *state;
        struct raw *raw = raw_open(sample->path);
        struct raw_request request = { .body = "\0\0\0\0\6\x1a\4slow", .n = 11 };
        int32_t id = raw_submit(raw, &request);

        raw_run(raw, 20);
        assert_true(sample_reaches(&sample->started, 1));
        nghttp2_submit_rst_stream(raw->http.session, 0, id, NGHTTP2_CANCEL);
        raw_run(raw, 20);
        assert_true(sample_reaches(&sample->finished, 1));
        assert_int_equal(sample->cancelled, 1);
        assert_false(raw->ended); /* nobody said GOAWAY */
        raw_close(raw);
}

static void test_deadline(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        _cleanup_error_ struct st_error *error = NULL;
        enum rpc_code code = RPC_OK;
        struct rpc_options options = { .timeout_ms = 60, .linger_ms = 3000, .code = &code };

        assert_int_equal(dump(client, "slow", &options, NULL, &error), -ETIMEDOUT);
        assert_int_equal(code, RPC_DEADLINE_EXCEEDED); /* the server's own answer, after its handler finished */
        assert_string_equal(st_error_message(error), "deadline exceeded: rolled back");
        assert_int_equal(sample->finished, 1);
        assert_int_equal(sample->reason, -ETIMEDOUT);
        assert_int_equal(dump(client, "hello", NULL, NULL, NULL), 0);
}

static void test_deadline_without_linger(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        _cleanup_error_ struct st_error *error = NULL;
        struct rpc_options options = { .timeout_ms = 60 };

        assert_int_equal(dump(client, "slow", &options, NULL, &error), -ETIMEDOUT);
        assert_true(sample_reaches(&sample->finished, 1));
}

static void test_cancel_settles(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        _cleanup_error_ struct st_error *error = NULL;
        bool settled = false;
        struct rpc_options options = { .cancel_fd = eventfd(1, EFD_CLOEXEC), .linger_ms = 3000, .settled = &settled };

        assert_int_equal(dump(client, "slow", &options, NULL, &error), -ECANCELED);
        assert_true(settled);
        /* It was reset on its way, or its handler has finished: nothing of it goes on in either case. */
        assert_int_equal(sample->finished, sample->started);
        close(options.cancel_fd);
}

struct canceller {
        struct sample *sample;
        int fd;
};

static void *cancel_started(void *userdata) {
        struct canceller *canceller = userdata;

        if (sample_reaches(&canceller->sample->started, 1))
                (void)eventfd_write(canceller->fd, 1);
        return NULL;
}

/* @return whether the call was settled; it is cancelled after it has started */
static bool cancel_running(struct sample *sample, int linger_ms) {
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        bool settled = false;
        struct rpc_options options = { .cancel_fd = eventfd(0, EFD_CLOEXEC),
                                       .linger_ms = linger_ms,
                                       .settled = &settled };
        struct canceller canceller = { sample, options.cancel_fd };
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, cancel_started, &canceller), 0);
        assert_int_equal(dump(client, "slow", &options, NULL, NULL), -ECANCELED);
        assert_int_equal(sample->started, 1);
        if (settled)
                assert_int_equal(sample->finished, 1);
        pthread_join(thread, NULL);
        close(options.cancel_fd);
        return settled;
}

static void test_cancel_running(void **state) {
        assert_true(cancel_running(*state, 3000));
}

static void test_cancel_no_linger(void **state) {
        struct sample *sample = *state;

        assert_false(cancel_running(sample, 0));
        assert_true(sample_reaches(&sample->finished, 1));
}

static int count_events(struct rpc_client *client, const void *message, void *userdata) {
        const Stasis__V1__Event *event = message;
        unsigned *n = userdata;

        (void)client;
        (*n)++;
        if (event->kind_case == STASIS__V1__EVENT__KIND_PROGRESS)
                assert_int_equal(event->progress->done, *n);
        else
                assert_string_equal(event->dump->paths[0], "/x.tar");
        return 0;
}

static int leave_at_once(struct rpc_client *client, const void *message, void *userdata) {
        (void)client;
        (void)message;
        return ++*(unsigned *)userdata == 2 ? 1 : 0;
}

static int stream(struct rpc_client *client, const char *name,
                  int (*on_message)(struct rpc_client *client, const void *message, void *userdata), unsigned *n) {
        Daemon__DumpReq req = DAEMON__DUMP_REQ__INIT;
        struct rpc_options options = { .on_message = on_message, .userdata = n };

        *n = 0;
        req.name = (char *)name;
        return rpc_client_call(client, "/stasis.v1.Stasis/Dump", &req.base, &stasis__v1__event__descriptor, &options,
                               NULL, NULL);
}

static void test_server_stream(void **state) {
        struct sample *sample = *state;
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        unsigned n;

        assert_int_equal(stream(client, "x", count_events, &n), 0);
        assert_int_equal(n, 4);
        assert_int_equal(stream(client, "error", count_events, &n), -ENOENT);
        assert_int_equal(n, 3);
        assert_int_equal(stream(client, "slow", leave_at_once, &n), 0);
        assert_int_equal(n, 2);
        assert_true(sample_reaches(&sample->cancelled, 1));
        assert_int_equal(dump(client, "hello", NULL, NULL, NULL), 0);
}

struct attach_seen {
        char text[100];
        size_t n;
        int exit_code;
};

static int attach_output(struct rpc_client *client, const void *message, void *userdata) {
        const Daemon__AttachResp *resp = message;
        struct attach_seen *seen = userdata;

        (void)client;
        if (resp->output_case == DAEMON__ATTACH_RESP__OUTPUT_EXIT_CODE) {
                seen->exit_code = resp->exitcode;
                return 1;
        }
        if (seen->n + resp->stdout.len < sizeof(seen->text))
                memcpy(seen->text + seen->n, resp->stdout.data, resp->stdout.len);
        seen->n += resp->stdout.len;
        return 0;
}

static int attach_input(struct rpc_client *client, struct rpc_watch *watch, struct st_error **err) {
        Daemon__AttachReq req = DAEMON__ATTACH_REQ__INIT;
        char buffer[8];
        ssize_t n = read(watch->fd, buffer, sizeof(buffer));
        int r;

        if (n <= 0) {
                watch->fd = -1;
                rpc_client_close_send(client);
                return 0;
        }
        req.input_case = DAEMON__ATTACH_REQ__INPUT_STDIN;
        req.stdin = (ProtobufCBinaryData){ .len = (size_t)n, .data = (uint8_t *)buffer };
        r = rpc_client_send(client, &req.base);
        return r < 0 ? st_error_errno(err, r, "cannot send input") : 0;
}

/* @return the exit code, after input that came through a pipe */
static struct attach_seen attach(struct sample *sample, const char *input) {
        _cleanup_(rpc_client_freep) struct rpc_client *client = connected(sample);
        Daemon__AttachReq req = DAEMON__ATTACH_REQ__INIT;
        struct attach_seen seen = { .exit_code = -1 };
        struct rpc_watch watch = { .ready = attach_input };
        struct rpc_options options = {
                .on_message = attach_output, .userdata = &seen, .streaming = true, .watches = &watch, .n_watches = 1
        };
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        assert_int_equal(io_write_full(fds[1], input, strlen(input)), 0);
        close(fds[1]);
        watch.fd = fds[0];
        req.has_pid = 1;
        req.pid = 42;
        assert_int_equal(rpc_client_call(client, "/daemon.Daemon/Attach", &req.base, &daemon__attach_resp__descriptor,
                                         &options, NULL, NULL),
                         0);
        close(fds[0]);
        return seen;
}

static void test_attach(void **state) {
        struct attach_seen seen = attach(*state, "quit");

        assert_int_equal(seen.exit_code, 7);
        assert_string_equal(seen.text, "attached to 42\n");
        seen = attach(*state, "12345678abcdefgh");
        assert_int_equal(seen.exit_code, 8); /* after the end of its input */
        assert_string_equal(seen.text, "attached to 42\n12345678abcdefgh");
        assert_int_equal(((struct sample *)*state)->cancelled, 0);
}

/* 16 MB go out, never more than a little of it is queued. */
static void test_back_pressure(void **state) {
        struct sample *sample = *state;
        struct attach_seen seen = attach(sample, "flood");

        assert_int_equal(seen.exit_code, 9);
        assert_int_equal(seen.n, strlen("attached to 42\n") + SAMPLE_FLOOD * (size_t)4096);
        assert_in_range(sample->most_queued, 100000, 110000);
}

static void test_attach_gone(void **state) {
        struct sample *sample = *state;
        struct raw *raw = raw_open(sample->path);
        struct raw_request request = {
                .path = "/daemon.Daemon/Attach", .body = "\0\0\0\0\2\x08\x2a", .n = 7, .keep_open = true
        };

        raw_submit(raw, &request);
        raw_run(raw, 20);
        assert_true(sample_reaches(&sample->started, 1));
        raw_close(raw);
        assert_true(sample_reaches(&sample->cancelled, 1));
}

/* More resets at once than nghttp2 allows by default. */
static void test_resets(void **state) {
        struct sample *sample = *state;
        struct raw *raw = raw_open(sample->path);
        static struct raw_request requests[3000];
        struct raw_request last = { .body = "\0\0\0\0\6\x1a\4abcd", .n = 11 };
        int32_t id;

        for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                requests[i] = (struct raw_request){ .body = "\0\0\0\0\6\x1a\4", .n = 7, .keep_open = true };
                id = raw_submit(raw, requests + i);
                if (i % 100 == 99)
                        raw_run(raw, 1);
                nghttp2_submit_rst_stream(raw->http.session, 0, id, NGHTTP2_CANCEL);
                assert_true(rpc_connection_send(&raw->http) >= 0);
        }
        id = raw_submit(raw, &last);
        raw_run(raw, 1000);
        assert_int_equal(raw_stream(raw, id)->grpc_status, 0);
        raw_close(raw);
}

static void test_drain(void **state) {
        struct sample *sample = *state;
        struct raw *raw = raw_open(sample->path);
        struct raw_request request = { .body = "\0\0\0\0\6\x1a\4late", .n = 11 };
        _cleanup_error_ struct st_error *error = NULL;
        struct rpc_client *client = NULL;
        int32_t id = raw_submit(raw, &request);

        raw_run(raw, 20);
        assert_true(sample_reaches(&sample->started, 1));
        sample_wake(sample, 2);
        raw_run(raw, 2000);
        assert_int_equal(raw_stream(raw, id)->grpc_status, 0); /* what runs may finish */
        assert_true(sample_reaches(&sample->drained, 1));
        assert_int_equal(sample->cancelled, 0);
        assert_int_equal(rpc_client_connect(sample->path, 100, &client, &error), -ECONNREFUSED);
        raw_close(raw);
}

static void test_drain_timeout(void **state) {
        struct sample *sample = *state;
        struct raw *raw = raw_open(sample->path);
        struct raw_request request = { .body = "\0\0\0\0\6\x1a\4slow", .n = 11 };

        raw_submit(raw, &request);
        raw_run(raw, 20);
        assert_true(sample_reaches(&sample->started, 1));
        sample_wake(sample, 2);
        assert_true(sample_reaches(&sample->drained, 1));
        assert_int_equal(sample->cancelled, 1);
        raw_close(raw);
        assert_true(sample_reaches(&sample->finished, 1));
}

/* The teardown frees the server while the handlers still have their calls. */
static void test_free_with_calls(void **state) {
        struct sample *sample = *state;
        struct raw *raw = raw_open(sample->path);
        struct raw_request requests[2] = { { .body = "\0\0\0\0\6\x1a\4slow", .n = 11 },
                                           { .body = "\0\0\0\0\6\x1a\4slow", .n = 11 } };

        raw_submit(raw, requests);
        nghttp2_submit_rst_stream(raw->http.session, 0, raw_submit(raw, requests + 1), NGHTTP2_CANCEL);
        raw_run(raw, 20);
        assert_true(sample_reaches(&sample->started, 1));
        raw_close(raw);
        assert_int_equal(sample->finished, 0);
}

static void test_connect_errors(void **state) {
        struct sample *sample = *state;
        char long_path[200];
        struct rpc_client *client = NULL;
        _cleanup_error_ struct st_error *absent = NULL, *too_long = NULL;

        assert_int_equal(rpc_client_connect("/nonexistent/s", 100, &client, &absent), -ECONNREFUSED);
        assert_non_null(strstr(st_error_message(absent), "the daemon does not answer at /nonexistent/s"));
        assert_non_null(strstr(st_error_message(absent), "--no-server"));
        memset(long_path, 'p', sizeof(long_path) - 1);
        long_path[sizeof(long_path) - 1] = '\0';
        assert_int_equal(rpc_client_connect(long_path, 100, &client, &too_long), -EINVAL);
        assert_null(client);
        assert_int_equal(rpc_client_connect(sample->directory, 100, &client, NULL), -ECONNREFUSED);
}

static void test_server_dies(void **state) {
        _cleanup_error_ struct st_error *error = NULL;
        struct rpc_client *client;
        int fds[2];

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        client = rpc_client_new(fds[0]);
        close(fds[1]);
        assert_int_equal(dump(client, "hello", NULL, NULL, &error), -ECONNRESET);
        rpc_client_free(client);
}

static void test_services(void **state) {
        struct sample *sample = *state;
        static const struct rpc_method wrong[] = { { .name = "Absent", .handle = sample_dump }, {} };
        struct rpc_server *server = NULL;

        assert_int_equal(rpc_server_new(sample->loop, NULL, &server, NULL), 0);
        assert_int_equal(rpc_server_add_service(server, &daemon__daemon__descriptor, wrong, NULL, NULL), -EINVAL);
        assert_int_equal(rpc_server_add_service(server, &daemon__daemon__descriptor, sample_daemon, NULL, NULL), 0);
        assert_int_equal(rpc_server_add_service(server, &daemon__daemon__descriptor, sample_daemon, NULL, NULL),
                         -EEXIST);
        rpc_server_free(server);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_unary),
                TEST(test_peer),
                TEST(test_health),
                TEST(test_health_of_services),
                TEST(test_error),
                TEST(test_unimplemented),
                TEST(test_not_utf8),
                TEST(test_nothing),
                TEST(test_large),
                TEST(test_response_limit),
                TEST(test_concurrent),
                TEST(test_refusals),
                TEST(test_accepted_forms),
                TEST(test_not_http2),
                TEST(test_client_gone),
                TEST(test_reset),
                TEST(test_deadline),
                TEST(test_deadline_without_linger),
                TEST(test_cancel_settles),
                TEST(test_cancel_running),
                TEST(test_cancel_no_linger),
                TEST(test_server_stream),
                TEST(test_attach),
                TEST(test_back_pressure),
                TEST(test_attach_gone),
                TEST(test_resets),
                TEST(test_drain),
                TEST(test_drain_timeout),
                TEST(test_free_with_calls),
                TEST(test_connect_errors),
                TEST(test_server_dies),
                cmocka_unit_test_setup_teardown(test_services, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
