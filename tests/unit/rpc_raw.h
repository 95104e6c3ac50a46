/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* An HTTP/2 client that does what a gRPC client would not: any headers, any bytes. For tests. */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "rpc/connection.h"

#define RAW_STREAMS 4096

struct raw_stream {
        int http_status, grpc_status; /* -1: none came */
        char message[400];            /* as on the wire */
        char encoding[32];            /* grpc-accept-encoding */
        size_t received;              /* bytes of DATA */
        unsigned headers;             /* blocks of them */
        bool closed;
        uint32_t code;
};

struct raw {
        struct rpc_connection http;
        struct raw_stream streams[RAW_STREAMS]; /* by (id - 1) / 2 */
        unsigned open;
        bool ended; /* the server closed the connection */
};

#define RAW_NONE "" /* leaves a header out */

/* What to send. Headers that are NULL are as they should be, those of a Dump. */
struct raw_request {
        const char *method, *path, *content_type, *te, *timeout, *extra;
        const char *body;
        size_t n, sent;
        bool keep_open; /* do not end the stream */
};

static struct raw_stream *raw_stream(struct raw *raw, int32_t id) {
        return raw->streams + (id - 1) / 2;
}

static int raw_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                         const uint8_t *value, size_t size, uint8_t flags, void *userdata) {
        struct raw_stream *stream = raw_stream(userdata, frame->hd.stream_id);

        (void)session;
        (void)name_size;
        (void)size;
        (void)flags;
        if (strcmp((const char *)name, ":status") == 0) {
                stream->http_status = (int)strtol((const char *)value, NULL, 10);
                stream->headers++;
        } else if (strcmp((const char *)name, "grpc-status") == 0) {
                stream->grpc_status = (int)strtol((const char *)value, NULL, 10);
                stream->headers += stream->headers == 1 && stream->received > 0;
        } else if (strcmp((const char *)name, "grpc-message") == 0)
                snprintf(stream->message, sizeof(stream->message), "%s", (const char *)value);
        else if (strcmp((const char *)name, "grpc-accept-encoding") == 0)
                snprintf(stream->encoding, sizeof(stream->encoding), "%s", (const char *)value);
        return 0;
}

static int raw_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n,
                       void *userdata) {
        (void)flags;
        (void)data;
        raw_stream(userdata, id)->received += n;
        return nghttp2_session_consume(session, id, n);
}

static int raw_on_close(nghttp2_session *session, int32_t id, uint32_t code, void *userdata) {
        struct raw *raw = userdata;

        (void)session;
        raw_stream(raw, id)->closed = true;
        raw_stream(raw, id)->code = code;
        raw->open--;
        return 0;
}

static ssize_t raw_read(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t n, uint32_t *flags,
                        nghttp2_data_source *source, void *userdata) {
        struct raw_request *request = source->ptr;
        size_t left = request->n - request->sent;

        (void)session;
        (void)id;
        (void)userdata;
        if (left == 0 && request->keep_open)
                return NGHTTP2_ERR_DEFERRED;
        if (n > left)
                n = left;
        if (n > 0)
                memcpy(buffer, request->body + request->sent, n);
        request->sent += n;
        if (request->sent == request->n && !request->keep_open)
                *flags |= NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)n;
}

static struct raw *raw_open(const char *path) {
        struct raw *raw = NEW(struct raw);
        nghttp2_session_callbacks *callbacks;
        int fd = io_connect_unix(path);

        if (fd < 0 || nghttp2_session_callbacks_new(&callbacks) != 0)
                abort();
        nghttp2_session_callbacks_set_on_header_callback(callbacks, raw_on_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, raw_on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, raw_on_close);
        if (rpc_connection_open(&raw->http, rpc_transport_socket(fd), callbacks, 0, raw) < 0)
                abort();
        nghttp2_session_callbacks_del(callbacks);
        return raw;
}

static void raw_close(struct raw *raw) {
        rpc_connection_close(&raw->http);
        free(raw);
}

static void raw_add(nghttp2_nv *headers, size_t *n, const char *name, const char *value, const char *usual) {
        if (!value)
                value = usual;
        if (value && *value)
                headers[(*n)++] = rpc_connection_header(name, value);
}

/* @return the stream's ID. The request must live until it is sent. */
static int32_t raw_submit(struct raw *raw, struct raw_request *request) {
        nghttp2_data_provider provider = { .source.ptr = request, .read_callback = raw_read };
        nghttp2_nv headers[10];
        size_t n = 0;
        int32_t id;

        raw_add(headers, &n, ":method", request->method, "POST");
        raw_add(headers, &n, ":scheme", NULL, "http");
        raw_add(headers, &n, ":path", request->path, "/daemon.Daemon/Dump");
        raw_add(headers, &n, ":authority", NULL, "localhost");
        raw_add(headers, &n, "te", request->te, "trailers");
        raw_add(headers, &n, "content-type", request->content_type, "application/grpc");
        raw_add(headers, &n, "grpc-timeout", request->timeout, NULL);
        raw_add(headers, &n, "extra", request->extra, NULL);
        id = nghttp2_submit_request(raw->http.session, NULL, headers, n, &provider, NULL);
        if (id < 0)
                abort();
        raw_stream(raw, id)->http_status = raw_stream(raw, id)->grpc_status = -1;
        raw->open++;
        return id;
}

/* Sends and receives until all streams are closed, the connection ends, or nothing comes for some time. */
static void raw_run(struct raw *raw, int patience_ms) {
        while (!raw->ended && (raw->open > 0 || nghttp2_session_want_write(raw->http.session))) {
                int r = rpc_connection_send(&raw->http);
                struct pollfd fd = { .fd = raw->http.transport->fd, .events = (short)(POLLIN | (r > 0 ? POLLOUT : 0)) };

                if (raw->open == 0 && r == 0)
                        break;
                if (poll(&fd, 1, patience_ms) <= 0)
                        break;
                if (fd.revents & (POLLIN | POLLHUP))
                        raw->ended = rpc_connection_receive(&raw->http) < 0;
        }
}

/* One call on a connection of its own. */
static struct raw_stream raw_call(const char *path, struct raw_request *request) {
        struct raw *raw = raw_open(path);
        struct raw_stream stream;
        int32_t id = raw_submit(raw, request);

        raw_run(raw, 3000);
        stream = *raw_stream(raw, id);
        raw_close(raw);
        return stream;
}
