/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What comes from a socket: the forms of gRPC's headers, its framing, and whole connections. The first byte says which;
 * a connection's preface and SETTINGS are put before the input, so that it starts at the frames.
 */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <daemon/daemon.pb-c.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "rpc/grpc.h"
#include "rpc/metadata.h"
#include "rpc/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONNECTION_BYTES 60000 /* fits a socket's buffer: one write */

static void fuzz_decoder(const uint8_t *data, size_t n) {
        struct grpc_decoder decoder = { .limit = 1000 };

        for (size_t piece = 1; n > 0; piece = piece * 3 % 17) {
                size_t left = piece < n ? piece : n, given = left;
                int r = grpc_decoder_next(&decoder, &data, &left, NULL);

                n -= given - left;
                assert(rpc_buffer_size(&decoder.message) <= 1000);
                if (r < 0)
                        break;
                if (r > 0)
                        grpc_decoder_reset(&decoder);
        }
        grpc_decoder_clear(&decoder);
}

static void fuzz_timeout(const uint8_t *data, size_t n) {
        char text[GRPC_TIMEOUT_SIZE];
        uint64_t usec, back;

        if (grpc_timeout_parse((const char *)data, n, &usec) < 0)
                return;
        grpc_timeout_format(usec, text);
        assert(grpc_timeout_parse(text, strlen(text), &back) == 0 && back >= usec);
}

static void fuzz_percent(const uint8_t *data, size_t n) {
        _cleanup_free_ char *decoded = grpc_percent_decode((const char *)data, n);
        _cleanup_free_ char *encoded = grpc_percent_encode(decoded);
        _cleanup_free_ char *back = grpc_percent_decode(encoded, strlen(encoded));

        assert(strlen(encoded) <= GRPC_MESSAGE_LIMIT + 3);
        if (strlen(decoded) * 3 <= GRPC_MESSAGE_LIMIT)
                assert(strcmp(decoded, back) == 0);
}

static void fuzz_metadata(const uint8_t *data, size_t n) {
        struct rpc_metadata metadata = {}, back = {};

        if (rpc_metadata_add_wire(&metadata, "x-bin", 5, data, n) == 0) {
                _cleanup_free_ char *wire = rpc_metadata_wire_value(metadata.items);

                assert(rpc_metadata_add_wire(&back, "x-bin", 5, wire, strlen(wire)) == 0);
                assert(back.items[0].size == metadata.items[0].size);
                assert(memcmp(back.items[0].value, metadata.items[0].value, back.items[0].size) == 0);
        }
        rpc_metadata_clear(&metadata);
        rpc_metadata_clear(&back);
}

/* Replacing twice changes nothing more, and a message that could be read can be read after it. */
static void fuzz_sanitise(const uint8_t *data, size_t n) {
        _cleanup_free_ uint8_t *once = xmalloc(n), *twice = xmalloc(n);
        Daemon__RestoreReq *before = daemon__restore_req__unpack(NULL, n, data), *after;

        if (n > 0)
                memcpy(once, data, n);
        grpc_sanitise(&daemon__restore_req__descriptor, once, n);
        if (n > 0)
                memcpy(twice, once, n);
        grpc_sanitise(&daemon__restore_req__descriptor, twice, n);
        assert(memcmp(once, twice, n) == 0);
        if (!before)
                return;
        after = daemon__restore_req__unpack(NULL, n, once);
        assert(after);
        daemon__restore_req__free_unpacked(before, NULL);
        daemon__restore_req__free_unpacked(after, NULL);
}

static void answer(struct rpc_call *call, void *userdata) {
        const Daemon__DumpReq *req = rpc_call_request(call);
        Daemon__DumpResp resp = DAEMON__DUMP_RESP__INIT;

        (void)userdata;
        resp.n_messages = req->name ? 1 : 0;
        resp.messages = (char **)&req->name;
        (void)rpc_call_send(call, &resp.base);
        rpc_call_finish(call, NULL);
}

static void echo(struct rpc_call *call, const void *message, void *userdata) {
        const Daemon__AttachReq *req = message;
        Daemon__AttachResp resp = DAEMON__ATTACH_RESP__INIT;

        (void)userdata;
        resp.output_case = DAEMON__ATTACH_RESP__OUTPUT_EXIT_CODE;
        resp.exitcode = req ? (int)req->pid : -1;
        (void)rpc_call_send(call, &resp.base);
        if (!req || req->pid == 1)
                rpc_call_finish(call, NULL);
}

static void gone(struct rpc_call *call, int reason, void *userdata) {
        (void)reason;
        (void)userdata;
        rpc_call_finish(call, NULL);
}

static void attach(struct rpc_call *call, void *userdata) {
        rpc_call_on_cancel(call, gone, userdata);
        rpc_call_on_message(call, echo, userdata);
}

static void fuzz_connection(const uint8_t *data, size_t n) {
        static const struct rpc_method methods[] = { { .name = "Dump", .handle = answer },
                                                     { .name = "Attach", .handle = attach, .streaming = true },
                                                     {} };
        static const char start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"; /* RFC 9113, 3.4 and 6.5 */
        static struct rpc_server *server;
        static sd_event *loop;
        struct rpc_peer *peer;
        int fds[2];

        if (!server && (sd_event_new(&loop) < 0 || rpc_server_new(loop, NULL, &server, NULL) < 0 ||
                        rpc_server_add_service(server, &daemon__daemon__descriptor, methods, NULL, NULL) < 0))
                abort();
        if (n > CONNECTION_BYTES)
                n = CONNECTION_BYTES;
        if (io_socketpair(fds) < 0 || rpc_peer_of_socket(fds[0], &peer) < 0)
                abort();
        if (rpc_server_serve(server, rpc_transport_socket(fds[0]), peer, NULL) < 0 ||
            io_write_full(fds[1], start, sizeof(start) - 1) < 0 || io_write_full(fds[1], data, n) < 0)
                abort();
        rpc_peer_unref(peer);
        while (sd_event_run(loop, 0) > 0) /* the answers */
                continue;
        shutdown(fds[1], SHUT_WR);
        while (rpc_server_connections(server) > 0) /* and the end */
                if (sd_event_run(loop, UINT64_MAX) < 0)
                        abort();
        assert(rpc_server_calls(server) == 0);
        close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static void (*const targets[])(const uint8_t *, size_t) = {
                fuzz_connection, fuzz_decoder, fuzz_timeout, fuzz_percent, fuzz_metadata, fuzz_sanitise,
        };

        if (size > 0)
                targets[data[0] % ELEMENTSOF(targets)](data + 1, size - 1);
        return 0;
}
