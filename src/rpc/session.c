/* SPDX-License-Identifier: Apache-2.0 */

/* One connection in the server: its I/O, and what nghttp2 tells of its streams. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/memory.h"
#include "rpc/server_private.h"

static int on_begin_headers(nghttp2_session *http, const nghttp2_frame *frame, void *userdata) {
        struct session *session = userdata;

        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
                nghttp2_session_set_stream_user_data(http, frame->hd.stream_id, call_new(session, frame->hd.stream_id));
        return 0;
}

static int on_header(nghttp2_session *http, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t size, uint8_t flags, void *userdata) {
        struct rpc_call *call = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);

        (void)flags;
        (void)userdata;
        if (call && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
                head_take(&call->head, (const char *)name, name_size, (const char *)value, size);
        return 0;
}

static int on_frame_recv(nghttp2_session *http, const nghttp2_frame *frame, void *userdata) {
        struct rpc_call *call;

        (void)userdata;
        if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
                return 0;
        call = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
        if (!call)
                return 0;
        if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
                call_begin(call);
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
                call_input_end(call);
        return 0;
}

static int on_data_chunk(nghttp2_session *http, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t n,
                         void *userdata) {
        struct rpc_call *call = nghttp2_session_get_stream_user_data(http, stream_id);

        (void)flags;
        (void)userdata;
        nghttp2_session_consume_connection(http, n);
        if (call)
                call_data(call, data, n);
        return 0;
}

/* The status is out while the client may still be sending: it is told not to (RFC 9113, 8.1). */
static int on_frame_send(nghttp2_session *http, const nghttp2_frame *frame, void *userdata) {
        struct rpc_call *call;

        (void)userdata;
        if (frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
                return 0;
        call = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
        if (call && !call->input_ended)
                nghttp2_submit_rst_stream(http, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
        return 0;
}

static int on_stream_close(nghttp2_session *http, int32_t stream_id, uint32_t error_code, void *userdata) {
        struct rpc_call *call = nghttp2_session_get_stream_user_data(http, stream_id);

        (void)error_code;
        (void)userdata;
        if (call) {
                nghttp2_session_set_stream_user_data(http, stream_id, NULL);
                call_stream_closed(call);
        }
        return 0;
}

static nghttp2_session_callbacks *make_callbacks(void) {
        nghttp2_session_callbacks *callbacks;

        if (nghttp2_session_callbacks_new(&callbacks) != 0)
                return NULL;
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        return callbacks;
}

void session_free(struct session *session) {
        struct rpc_server *server = session->server;
        struct rpc_call *call;

        sd_event_source_disable_unref(session->io);
        sd_event_source_disable_unref(session->flush);
        session->io = session->flush = NULL; /* a handler that is called now must not wake it again */
        while ((call = LIST_FIRST(&session->calls)))
                call_detach(call);
        rpc_connection_close(&session->http);
        LIST_REMOVE(session, link);
        server->n_remote -= session->peer->address != NULL;
        rpc_peer_unref(session->peer);
        free(session);
        server_session_gone(server);
}

void session_flush(struct session *session) {
        if (session->flush)
                (void)sd_event_source_set_enabled(session->flush, SD_EVENT_ONESHOT);
}

/* Handlers that are told may end their calls and others of the session: the list is looked at anew after each. */
static void tell_drained(struct session *session) {
        while (session->drained) {
                struct rpc_call *call;

                session->drained = false;
                for (call = LIST_FIRST(&session->calls); call && !call->drained;)
                        call = LIST_NEXT(call, link);
                if (call) {
                        session->drained = true;
                        call_tell_drained(call);
                }
        }
}

static uint32_t io_events(const struct session *session, bool more_to_send) {
        if (session->http.transport->receive_needs_write)
                return EPOLLOUT;
        return more_to_send ? EPOLLIN | EPOLLOUT : EPOLLIN;
}

/*
 * Sends what there is; ends the session when nothing can come of it. After the peer's GOAWAY that is when the last
 * call has finished, also one that was reset: the end of the connection tells the client that all is over.
 */
static void send_or_end(struct session *session) {
        int r = rpc_connection_send(&session->http);

        tell_drained(session);
        if (r >= 0)
                (void)sd_event_source_set_io_events(session->io, io_events(session, r > 0));
        if (r < 0 || (LIST_EMPTY(&session->calls) && rpc_connection_done(&session->http)))
                session_free(session);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct session *session = userdata;
        int r = 0;

        (void)source;
        (void)fd;
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) || session->http.transport->receive_needs_write)
                r = rpc_connection_receive(&session->http);
        if (r == -EPROTO)
                (void)rpc_connection_send(&session->http); /* a GOAWAY may say why */
        if (r < 0)
                session_free(session);
        else
                send_or_end(session);
        return 0;
}

static int on_flush(sd_event_source *source, void *userdata) {
        (void)source;
        send_or_end(userdata);
        return 0;
}

void session_leave(struct session *session) {
        nghttp2_session *http = session->http.session;

        nghttp2_submit_goaway(http, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(http), NGHTTP2_NO_ERROR,
                              NULL, 0);
        session_flush(session);
}

static int session_watch(struct session *session, struct st_error **err) {
        sd_event *loop = session->server->loop;
        int r = sd_event_add_io(loop, &session->io, session->http.transport->fd, EPOLLIN, on_io, session);

        if (r >= 0)
                r = sd_event_add_defer(loop, &session->flush, on_flush, session);
        return r < 0 ? st_error_errno(err, r, "cannot watch a connection") : 0;
}

int session_new(struct rpc_server *server, struct rpc_transport *transport, struct rpc_peer *peer,
                struct st_error **err) {
        struct session *session = NEW(struct session);
        nghttp2_session_callbacks *callbacks = make_callbacks();
        int r = callbacks ? 0 : -ENOMEM;

        session->server = server;
        session->peer = rpc_peer_ref(peer);
        LIST_INSERT_HEAD(&server->sessions, session, link);
        server->n_sessions++;
        server->n_remote += peer->address != NULL;
        session->http.transport = transport;
        if (r == 0)
                r = rpc_connection_open(&session->http, transport, callbacks, server->options.max_calls, session);
        nghttp2_session_callbacks_del(callbacks);
        if (r < 0)
                st_error_errno(err, r, "cannot open a connection");
        else
                r = session_watch(session, err);
        if (r < 0)
                session_free(session);
        return r;
}
