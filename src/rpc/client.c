/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/version.h"
#include "rpc/client.h"
#include "rpc/connection.h"
#include "rpc/grpc.h"

#define RESPONSE_LIMIT ((size_t)64 << 20)
/* Watches wait while more than this is queued. */
#define QUEUE_LIMIT ((size_t)64 << 10)
#define NO_STATUS (-1)

/* The call that is running, or ran last. */
struct exchange {
        const struct rpc_options *options;
        const ProtobufCMessageDescriptor *type;
        int32_t stream_id;
        struct rpc_buffer out;
        bool input_closed;
        struct grpc_decoder decoder;
        ProtobufCMessage *message;
        size_t header_bytes;
        int http_status, status;
        char *text;  /* of the status, decoded */
        bool closed; /* the stream is */
        uint32_t close_code;
        bool leave; /* on_message has seen enough */
        bool paused;
        int result; /* of ours; what the server says then does not count */
        struct st_error *error;
};

struct rpc_client {
        struct rpc_connection http;
        struct exchange *exchange; /* NULL: no call is running */
        char *authority;           /* NULL: a UNIX socket, which has no name of its own */
};

static void exchange_clear(struct exchange *exchange) {
        rpc_buffer_clear(&exchange->out);
        grpc_decoder_clear(&exchange->decoder);
        if (exchange->message)
                protobuf_c_message_free_unpacked(exchange->message, NULL);
        free(exchange->text);
        st_error_free(exchange->error);
}

/* Ends the call for a reason of ours, which error holds. */
static void give_up(struct rpc_client *client, int result) {
        struct exchange *exchange = client->exchange;

        exchange->result = result;
        exchange->leave = true;
        if (!exchange->closed)
                nghttp2_submit_rst_stream(client->http.session, NGHTTP2_FLAG_NONE, exchange->stream_id, NGHTTP2_CANCEL);
}

static struct exchange *exchange_of(struct rpc_client *client, int32_t stream_id) {
        return client->exchange && client->exchange->stream_id == stream_id ? client->exchange : NULL;
}

/* @return the number, -1: it is none */
static int small_number(const uint8_t *value, size_t size) {
        int number = 0;

        if (size == 0 || size > 3)
                return -1;
        for (size_t i = 0; i < size; i++) {
                if (value[i] < '0' || value[i] > '9')
                        return -1;
                number = number * 10 + (value[i] - '0');
        }
        return number;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t size, uint8_t flags, void *userdata) {
        struct exchange *exchange = exchange_of(userdata, frame->hd.stream_id);

        (void)session;
        (void)flags;
        if (!exchange)
                return 0;
        exchange->header_bytes += name_size + size + 32;
        if (exchange->header_bytes > 2 * CONNECTION_HEADER_LIMIT)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        if (streq((const char *)name, ":status")) /* nghttp2 ends names and values by NUL */
                exchange->http_status = small_number(value, size);
        else if (streq((const char *)name, "grpc-status")) {
                exchange->status = small_number(value, size);
                if (exchange->status < 0)
                        exchange->status = RPC_UNKNOWN;
        } else if (streq((const char *)name, "grpc-message")) {
                free(exchange->text);
                exchange->text = grpc_percent_decode((const char *)value, size);
        } else if (exchange->options->trailers && frame->hd.flags & NGHTTP2_FLAG_END_STREAM && name[0] != ':' &&
                   !streq((const char *)name, "content-type"))
                /* What does not fit or cannot be read is metadata that nobody asked for. */
                (void)rpc_metadata_add_wire(exchange->options->trailers, (const char *)name, name_size, value, size);
        return 0;
}

/* A message is complete. */
static void take_message(struct rpc_client *client, struct exchange *exchange) {
        const struct rpc_buffer *bytes = &exchange->decoder.message;
        ProtobufCMessage *message;
        int r;

        message = protobuf_c_message_unpack(exchange->type, NULL, rpc_buffer_size(bytes),
                                            rpc_buffer_size(bytes) > 0 ? rpc_buffer_bytes(bytes) : NULL);
        if (!message) {
                give_up(client, st_error_set(&exchange->error, EPROTO, "the daemon's answer is not a valid %s",
                                             exchange->type->name));
                return;
        }
        if (!exchange->options->on_message) {
                if (exchange->message)
                        protobuf_c_message_free_unpacked(exchange->message, NULL);
                exchange->message = message;
                return;
        }
        r = exchange->options->on_message(client, message, exchange->options->userdata);
        protobuf_c_message_free_unpacked(message, NULL);
        if (r < 0)
                st_error_set(&exchange->error, r, "the answer was not accepted");
        if (r != 0)
                give_up(client, r < 0 ? r : 0);
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t n,
                         void *userdata) {
        struct rpc_client *client = userdata;
        struct exchange *exchange = exchange_of(client, stream_id);
        int r = 0;

        (void)flags;
        nghttp2_session_consume(session, stream_id, n);
        while (exchange && !exchange->leave &&
               (r = grpc_decoder_next(&exchange->decoder, &data, &n, &exchange->error)) > 0) {
                take_message(client, exchange);
                grpc_decoder_reset(&exchange->decoder);
        }
        if (exchange && r < 0) {
                st_error_wrap(&exchange->error, "the daemon's answer cannot be read");
                give_up(client, r);
        }
        return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *userdata) {
        struct exchange *exchange = exchange_of(userdata, stream_id);

        (void)session;
        if (exchange) {
                exchange->closed = true;
                exchange->close_code = error_code;
        }
        return 0;
}

static ssize_t read_source(nghttp2_session *session, int32_t stream_id, uint8_t *buffer, size_t n, uint32_t *flags,
                           nghttp2_data_source *source, void *userdata) {
        struct exchange *exchange = exchange_of(userdata, stream_id);
        size_t size = exchange ? rpc_buffer_size(&exchange->out) : 0;

        (void)session;
        (void)source;
        if (!exchange || (size == 0 && !exchange->input_closed))
                return NGHTTP2_ERR_DEFERRED;
        if (n > size)
                n = size;
        if (n > 0) {
                memcpy(buffer, rpc_buffer_bytes(&exchange->out), n);
                rpc_buffer_consume(&exchange->out, n);
        }
        if (n == size && exchange->input_closed)
                *flags |= NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)n;
}

struct rpc_client *rpc_client_new(int fd) {
        return rpc_client_new_transport(rpc_transport_socket(fd), NULL);
}

struct rpc_client *rpc_client_new_transport(struct rpc_transport *transport, const char *authority) {
        struct rpc_client *client = NEW(struct rpc_client);
        nghttp2_session_callbacks *callbacks = NULL;

        if (nghttp2_session_callbacks_new(&callbacks) == 0) {
                nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
                nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
                nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        }
        if (!callbacks || rpc_connection_open(&client->http, transport, callbacks, 0, client) < 0)
                abort(); /* without memory for a few hundred bytes, as xmalloc() */
        nghttp2_session_callbacks_del(callbacks);
        client->authority = xstrdup(authority);
        return client;
}

struct rpc_client *rpc_client_free(struct rpc_client *client) {
        if (!client)
                return NULL;
        rpc_connection_close(&client->http);
        free(client->authority);
        free(client);
        return NULL;
}

static int connect_error(int number, const char *path, int timeout_ms, struct st_error **err) {
        switch (number) {
        case ENOENT:
        case ECONNREFUSED:
                st_error_set(err, ECONNREFUSED, "the daemon does not answer at %s", path);
                st_error_hint(err, "start it with 'stasis daemon start', or use --no-server");
                return -ECONNREFUSED;
        case EACCES:
        case EPERM:
                st_error_set(err, EACCES, "no permission to talk to the daemon at %s", path);
                st_error_hint(err, "use sudo, or join the group of Socket.Group, which counts as root");
                return -EACCES;
        case EAGAIN: /* unix(7), SO_SNDTIMEO: the queue of the listening socket stayed full */
                return st_error_set(err, ETIMEDOUT, "the daemon at %s accepts no connection in %d ms", path,
                                    timeout_ms);
        default:
                return st_error_errno(err, number, "cannot connect to the daemon at %s", path);
        }
}

int rpc_client_connect(const char *path, int timeout_ms, struct rpc_client **ret, struct st_error **err) {
        struct timeval patience = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -EBADF;

        if (isempty(path) || strlen(path) >= sizeof(address.sun_path))
                return st_error_set(err, EINVAL, "the socket's path \"%s\" is empty or longer than %zu bytes",
                                    path ? path : "", sizeof(address.sun_path) - 1);
        memcpy(address.sun_path, path, strlen(path));
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot make a socket");
        if (timeout_ms > 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
                return st_error_errno(err, errno, "cannot set the time-out of a socket");
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                return connect_error(errno, path, timeout_ms, err);
        *ret = rpc_client_new(TAKE_FD(fd));
        return 0;
}

static int submit(struct rpc_client *client, const char *method, const struct rpc_options *options) {
        nghttp2_data_provider provider = { .read_callback = read_source };
        char timeout[GRPC_TIMEOUT_SIZE];
        nghttp2_nv headers[8] = {
                rpc_connection_header(":method", "POST"),
                rpc_connection_header(":scheme", client->authority ? "https" : "http"),
                rpc_connection_header(":path", method),
                rpc_connection_header(":authority", client->authority ?: "localhost"),
                rpc_connection_header("te", "trailers"),
                rpc_connection_header("content-type", "application/grpc"),
                rpc_connection_header("user-agent", "stasis/" STASIS_VERSION),
        };
        size_t n = 7;

        if (options->timeout_ms > 0) {
                grpc_timeout_format((uint64_t)options->timeout_ms * 1000, timeout);
                headers[n++] = rpc_connection_header("grpc-timeout", timeout);
        }
        return nghttp2_submit_request(client->http.session, NULL, headers, n, &provider, NULL);
}

/* Takes what has come. @return 0, or -ECONNRESET with err when the server is gone and the call is not closed */
static int receive(struct rpc_client *client, struct st_error **err) {
        int r = rpc_connection_receive(&client->http);

        if (r >= 0 || client->exchange->closed || client->exchange->leave)
                return 0;
        if (r == -EPROTO)
                return st_error_set(err, EPROTO, "the daemon's answer is not HTTP/2");
        if (client->http.transport->error) {
                st_error_move(err, TAKE_PTR(client->http.transport->error));
                return st_error_wrap(err, "the connection to the daemon broke");
        }
        return st_error_set(err, ECONNRESET, "the daemon went away during the call");
}

#define POLL_SOCKET 0
#define POLL_CANCEL 1
#define POLL_WATCHES 2

static int poll_timeout(uint64_t end) {
        uint64_t now = clock_ms();

        if (end == UINT64_MAX)
                return -1;
        if (now >= end)
                return 0;
        return end - now > 3600000 ? 3600000 : (int)(end - now);
}

static int call_watches(struct rpc_client *client, const struct rpc_options *options, const struct pollfd *fds,
                        struct st_error **err) {
        for (size_t i = 0; i < options->n_watches; i++) {
                int r = fds[i].revents ? options->watches[i].ready(client, options->watches + i, err) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Waits for one thing to happen and does it. @return 0, or a negative errno with err that ends the call */
static int step(struct rpc_client *client, struct pollfd *fds, uint64_t end, struct st_error **err) {
        const struct rpc_options *options = client->exchange->options;
        int n, r = rpc_connection_send(&client->http);
        bool patient = rpc_buffer_size(&client->exchange->out) <= QUEUE_LIMIT; /* after that: it empties the queue */

        if (r < 0) /* the server is gone; what it said before is still to be read */
                return receive(client, err) < 0 || client->exchange->closed
                               ? st_error_number(*err)
                               : st_error_set(err, ECONNRESET, "the daemon went away during the call");
        fds[POLL_SOCKET].events = (short)((client->exchange->paused ? 0 : POLLIN) | (r > 0 ? POLLOUT : 0));
        for (size_t i = 0; i < options->n_watches; i++) {
                const struct rpc_watch *watch = &options->watches[i];

                fds[POLL_WATCHES + i] = (struct pollfd){ .fd = patient || watch->always ? watch->fd : -1,
                                                         .events = watch->events ?: POLLIN };
        }
        n = poll(fds, POLL_WATCHES + options->n_watches, poll_timeout(end));
        if (n < 0)
                return errno == EINTR ? 0 : st_error_errno(err, errno, "cannot wait for the daemon");
        if (fds[POLL_SOCKET].revents & (POLLIN | POLLHUP | POLLERR)) {
                r = receive(client, err);
                if (r < 0 || client->exchange->closed || client->exchange->leave)
                        return r;
        }
        if (fds[POLL_CANCEL].revents)
                return st_error_set(err, ECANCELED, "cancelled");
        if (n == 0 && clock_ms() >= end)
                return st_error_set(err, ETIMEDOUT, "the daemon gave no answer within %d ms", options->timeout_ms);
        return call_watches(client, options, fds + POLL_WATCHES, err);
}

/* After the reset and our GOAWAY the server ends the connection when it has finished: see client.h. */
static void linger(struct rpc_client *client, const struct rpc_options *options) {
        uint64_t end = clock_ms() + (uint64_t)(options->linger_ms > 0 ? options->linger_ms : 0);
        bool settled = false;

        nghttp2_submit_goaway(client->http.session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
        for (;;) {
                int r = rpc_connection_send(&client->http);
                struct pollfd fd = { .fd = client->http.transport->fd,
                                     .events = (short)(POLLIN | (r > 0 ? POLLOUT : 0)) };

                settled = rpc_connection_receive(&client->http) < 0;
                if (settled || clock_ms() >= end || (poll(&fd, 1, poll_timeout(end)) < 0 && errno != EINTR))
                        break;
        }
        if (options->settled)
                *options->settled = settled;
}

/* The status of the server as an error of ours. */
static int server_status(const struct exchange *exchange, struct st_error **err) {
        int number = rpc_code_to_errno(exchange->status);

        if (exchange->status == RPC_OK)
                return 0;
        if (exchange->status != NO_STATUS)
                return isempty(exchange->text)
                               ? st_error_set(err, number, "the daemon answered %s", rpc_code_name(exchange->status))
                               : st_error_set(err, number, "%s", exchange->text);
        if (exchange->http_status > 0 && exchange->http_status != 200)
                return st_error_set(err, EPROTO, "the daemon answered with the HTTP status %d", exchange->http_status);
        return st_error_set(err, ECONNRESET, "the daemon reset the call (%s)",
                            nghttp2_http2_strerror(exchange->close_code));
}

/* Runs the call until its stream is closed, or there is a reason to end it. */
static int exchange_run(struct rpc_client *client, struct st_error **err) {
        struct exchange *exchange = client->exchange;
        const struct rpc_options *options = exchange->options;
        _cleanup_free_ struct pollfd *fds = xcalloc(POLL_WATCHES + options->n_watches, sizeof(*fds));
        _cleanup_error_ struct st_error *error = NULL;
        uint64_t end = UINT64_MAX;
        int r = 0;

        if (options->timeout_ms > 0)
                end = clock_ms() + (uint64_t)options->timeout_ms;
        if (options->timeout_ms > 0 && options->linger_ms > 0)
                end += (uint64_t)options->linger_ms;
        fds[POLL_SOCKET].fd = client->http.transport->fd;
        fds[POLL_CANCEL] = (struct pollfd){ .fd = options->cancel_fd > 0 ? options->cancel_fd : -1, .events = POLLIN };
        while (r == 0 && !exchange->closed && !exchange->leave)
                r = step(client, fds, end, &error);
        if (r < 0) {
                give_up(client, r);
                st_error_move(&exchange->error, TAKE_PTR(error));
        }
        if (r == -ECANCELED)
                linger(client, options);
        else if (exchange->leave)
                (void)rpc_connection_send(&client->http);
        if (exchange->leave)
                return exchange->result < 0 ? st_error_move(err, TAKE_PTR(exchange->error)) : 0;
        return server_status(exchange, err);
}

int rpc_client_call(struct rpc_client *client, const char *method, const ProtobufCMessage *request,
                    const ProtobufCMessageDescriptor *response, const struct rpc_options *options, void *ret,
                    struct st_error **err) {
        static const struct rpc_options none = {};
        struct exchange exchange = { .options = options ? options : &none, .type = response, .status = NO_STATUS };
        int r;

        exchange.decoder.limit = exchange.options->message_limit ? exchange.options->message_limit : RESPONSE_LIMIT;
        exchange.input_closed = !exchange.options->streaming;
        if (exchange.options->settled)
                *exchange.options->settled = false;
        r = grpc_append_message(&exchange.out, request, false);
        if (r < 0)
                return st_error_errno(err, r, "cannot send the request");
        client->exchange = &exchange;
        exchange.stream_id = submit(client, method, exchange.options);
        if (exchange.stream_id < 0)
                r = st_error_set(err, ECONNRESET, "the connection to the daemon is used up");
        else
                r = exchange_run(client, err);
        if (r == 0 && !exchange.leave && !exchange.options->on_message && !exchange.message)
                r = st_error_set(err, EPROTO, "the daemon answered without a message");
        if (r == 0 && ret)
                *(ProtobufCMessage **)ret = TAKE_PTR(exchange.message);
        if (exchange.options->code)
                *exchange.options->code = exchange.status == NO_STATUS ? RPC_OK : (enum rpc_code)exchange.status;
        client->exchange = NULL;
        exchange_clear(&exchange);
        return r;
}

int rpc_client_send(struct rpc_client *client, const ProtobufCMessage *message) {
        struct exchange *exchange = client->exchange;
        int r;

        if (!exchange || exchange->input_closed || exchange->closed || exchange->leave)
                return -EPIPE;
        r = grpc_append_message(&exchange->out, message, false);
        if (r == 0)
                nghttp2_session_resume_data(client->http.session, exchange->stream_id);
        return r;
}

void rpc_client_close_send(struct rpc_client *client) {
        struct exchange *exchange = client->exchange;

        if (!exchange || exchange->input_closed)
                return;
        exchange->input_closed = true;
        nghttp2_session_resume_data(client->http.session, exchange->stream_id);
}

void rpc_client_pause(struct rpc_client *client, bool pause) {
        if (client->exchange)
                client->exchange->paused = pause;
}
