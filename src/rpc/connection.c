/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "rpc/connection.h"

#define RECEIVE_SIZE ((size_t)32 << 10)
#define RECEIVE_TURNS 32 /* before other connections get their turn */
#define SEND_SIZE ((size_t)64 << 10)

/*
 * Peers are as trusted as the socket they came by, and a client that gives up hundreds of calls at once is no attack:
 * nghttp2's own limit (1,000 at once, then 33 a second) would end its connection.
 */
#define RESET_BURST 20000
#define RESET_RATE 2000

static int new_session(struct rpc_connection *connection, nghttp2_session_callbacks *callbacks, bool server,
                       void *userdata) {
        nghttp2_option *option;
        int r;

        if (nghttp2_option_new(&option) != 0)
                return -ENOMEM;
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_stream_reset_rate_limit(option, RESET_BURST, RESET_RATE);
        r = server ? nghttp2_session_server_new2(&connection->session, callbacks, userdata, option)
                   : nghttp2_session_client_new2(&connection->session, callbacks, userdata, option);
        nghttp2_option_del(option);
        return r == 0 ? 0 : -ENOMEM;
}

int rpc_connection_open(struct rpc_connection *connection, struct rpc_transport *transport,
                        nghttp2_session_callbacks *callbacks, uint32_t max_streams, void *userdata) {
        bool server = max_streams > 0;
        nghttp2_settings_entry settings[] = {
                { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, CONNECTION_STREAM_WINDOW },
                { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)CONNECTION_HEADER_LIMIT },
                { server ? NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS : NGHTTP2_SETTINGS_ENABLE_PUSH, max_streams },
        };

        *connection = (struct rpc_connection){ .transport = transport };
        if (new_session(connection, callbacks, server, userdata) < 0)
                return -ENOMEM;
        if (nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings, ELEMENTSOF(settings)) != 0 ||
            nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) != 0)
                return -ENOMEM;
        return 0;
}

void rpc_connection_close(struct rpc_connection *connection) {
        nghttp2_session_del(connection->session);
        connection->session = NULL;
        connection->transport = rpc_transport_free(connection->transport);
        rpc_buffer_clear(&connection->out);
}

int rpc_connection_receive(struct rpc_connection *connection) {
        uint8_t buffer[RECEIVE_SIZE];

        for (unsigned turn = 0; turn < RECEIVE_TURNS; turn++) {
                ssize_t n = connection->transport->receive(connection->transport, buffer, sizeof(buffer));

                if (n == -EAGAIN)
                        return 0;
                if (n <= 0)
                        return n < 0 ? (int)n : -ENODATA;
                if (nghttp2_session_mem_recv(connection->session, buffer, (size_t)n) < 0)
                        return -EPROTO;
        }
        return 0;
}

/* Collects frames, many of which are small, into pieces that are worth a system call. */
static int fill(struct rpc_connection *connection) {
        while (rpc_buffer_size(&connection->out) < SEND_SIZE) {
                const uint8_t *data;
                ssize_t n = nghttp2_session_mem_send(connection->session, &data);
                uint8_t *to;

                if (n < 0)
                        return n == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
                if (n == 0)
                        return 0;
                to = rpc_buffer_extend(&connection->out, (size_t)n);
                if (!to)
                        return -ENOMEM;
                memcpy(to, data, (size_t)n);
        }
        return 0;
}

int rpc_connection_send(struct rpc_connection *connection) {
        for (;;) {
                ssize_t n;
                int r = fill(connection);

                if (r < 0)
                        return r;
                if (rpc_buffer_size(&connection->out) == 0)
                        return 0;
                n = connection->transport->send(connection->transport, rpc_buffer_bytes(&connection->out),
                                                rpc_buffer_size(&connection->out));
                if (n == -EAGAIN)
                        return 1;
                if (n < 0)
                        return (int)n;
                rpc_buffer_consume(&connection->out, (size_t)n);
        }
}

bool rpc_connection_done(const struct rpc_connection *connection) {
        return rpc_buffer_size(&connection->out) == 0 && !nghttp2_session_want_read(connection->session) &&
               !nghttp2_session_want_write(connection->session);
}
