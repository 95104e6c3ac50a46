/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The inside of the server, shared by server.c (listeners, services), session.c (one connection: bytes and HTTP/2)
 * and call.c (one call: gRPC). Memory: a connection is freed only from session.c's outermost functions, never below a
 * callback of nghttp2 or of a handler. A call holds itself from its HEADERS until it is finished AND its stream is
 * closed; it may outlive the connection and the server, and then has none.
 */

#include <sys/queue.h>

#include "rpc/connection.h"
#include "rpc/grpc.h"
#include "rpc/metadata.h"
#include "rpc/server.h"
#include "rpc/status.h"

/* A stream that has more than this to send is not given more of its client's bytes, until it has sent that. */
#define CALL_QUEUE_LIMIT ((size_t)64 << 10)
/* All requests that are not complete, in messages of the largest size. */
#define SERVER_RECEIVING_LIMIT 16
/* Calls whose handlers have not finished, reset ones too: those HTTP/2's own limit does not count. */
#define SERVER_CALLS_LIMIT 8192
/* Custom trailers: with the message they stay below the 8 KiB that C-core's clients take. */
#define CALL_TRAILER_LIMIT ((size_t)4000)

struct service {
        const ProtobufCServiceDescriptor *descriptor;
        const struct rpc_method *methods;
        void *userdata;
};

struct listener {
        sd_event_source *source;
        struct rpc_server *server;
        struct rpc_tls *tls; /* the caller's; NULL: a UNIX socket */
        rpc_identify_fn identify;
        void *userdata;
        LIST_ENTRY(listener) link;
};

struct session {
        struct rpc_connection http;
        struct rpc_server *server;
        struct rpc_peer *peer;
        sd_event_source *io;
        sd_event_source *flush; /* one turn later: send what was queued outside of the I/O handler */
        LIST_HEAD(, rpc_call) calls;
        bool drained; /* one of the calls has something to tell its handler */
        LIST_ENTRY(session) link;
};

struct rpc_server {
        sd_event *loop;
        struct rpc_server_options options;
        struct service *services;
        size_t n_services, services_room;
        LIST_HEAD(, listener) listeners;
        LIST_HEAD(, session) sessions;
        TAILQ_HEAD(, handshake) handshakes; /* the oldest first */
        size_t n_handshakes;
        LIST_HEAD(, rpc_call) orphans; /* calls whose session is gone, and whose handlers have not finished */
        sd_event_source *breath;       /* listening again, after the process was out of descriptors */
        size_t n_sessions;
        size_t n_remote; /* of them by TLS: those must not keep this machine's own out */
        rpc_admit_fn admit;
        void *admit_userdata;
        size_t n_calls;   /* not finished */
        size_t receiving; /* bytes of requests that are not complete */
        bool draining;
        sd_event_source *drain_timer, *drained;
        void (*drain_done)(void *userdata);
        void *drain_userdata;
};

/* What the headers of a request said. */
struct request_head {
        size_t bytes;
        bool post, te, content_type;
        bool timed;
        uint64_t timeout; /* microseconds */
        bool bad_timeout;
        char *path;
};

enum call_state {
        CALL_HEAD,     /* its headers are on their way */
        CALL_BODY,     /* accepted, the request is on its way */
        CALL_RUNNING,  /* the handler has it */
        CALL_FINISHED, /* its status is known */
};

struct rpc_call {
        unsigned refs;
        enum call_state state;
        struct rpc_server *server; /* NULL: freed */
        struct session *session;   /* NULL: gone */
        struct rpc_peer *peer;
        LIST_ENTRY(rpc_call) link; /* of the session, or the server's orphans; in neither without a server */
        int32_t stream_id;
        bool open;      /* the stream is */
        bool submitted; /* the response's headers are */
        bool input_ended;
        struct request_head head;

        const struct rpc_method *method;
        const ProtobufCMethodDescriptor *descriptor;
        void *userdata;
        struct grpc_decoder decoder;
        size_t counted; /* of decoder, in server->receiving */
        ProtobufCMessage *request;
        uint64_t deadline;
        sd_event_source *timer;

        struct rpc_buffer out;
        bool was_long;   /* out has been over CALL_QUEUE_LIMIT */
        bool drained;    /* and is below again: its handler is to be told */
        size_t withheld; /* bytes received and not yet given back to flow control */
        bool paused;

        enum rpc_code code;
        char *text; /* of the status, percent-encoded; NULL: none */
        struct rpc_metadata trailers;

        int cancelled; /* 0 or the reason */
        rpc_cancel_fn on_cancel;
        void *cancel_userdata;
        rpc_message_fn on_message;
        void *message_userdata;
        void (*on_drained)(struct rpc_call *call, void *userdata);
        void *drained_userdata;
};

/* server.c */
/* Is there room for one more connection? */
bool server_has_room(const struct rpc_server *server, bool remote);
const struct rpc_method *server_find_method(struct rpc_server *server, const char *path,
                                            const ProtobufCMethodDescriptor **ret, void **ret_userdata,
                                            struct st_error **err);
/* A session has gone: is that the last one of a drain? */
void server_session_gone(struct rpc_server *server);

/* handshake.c */
/* Shakes hands on a socket of a TLS listener, which it takes; then there is a session. */
void handshake_start(struct listener *listener, int fd);
void handshakes_end(struct rpc_server *server);

/* health.c */
int server_add_health(struct rpc_server *server, struct st_error **err);
bool server_is_health(const struct rpc_method *method);

/* session.c */
int session_new(struct rpc_server *server, struct rpc_transport *transport, struct rpc_peer *peer,
                struct st_error **err);
/* Tells the client by GOAWAY that no further calls are taken. */
void session_leave(struct session *session);
/* Ends it: cancels its calls. */
void session_free(struct session *session);
/* Something was queued. */
void session_flush(struct session *session);

/* call.c: called by session.c from callbacks of nghttp2 */
struct rpc_call *call_new(struct session *session, int32_t stream_id);
/* The headers are complete. */
void call_begin(struct rpc_call *call);
void call_data(struct rpc_call *call, const uint8_t *data, size_t n);
void call_input_end(struct rpc_call *call);
/* Its stream is closed. The call may be gone when this returns. */
void call_stream_closed(struct rpc_call *call);
/* Its session is going. The call may be gone when this returns. */
void call_detach(struct rpc_call *call);
/* Takes more of the client's bytes, and tells the handler, after the queue has become short. */
void call_tell_drained(struct rpc_call *call);

/* head.c */
void head_take(struct request_head *head, const char *name, size_t name_size, const char *value, size_t size);
/* @return 0 or the HTTP status that refuses it, with the reason in err */
unsigned head_check(const struct request_head *head, struct st_error **err);
void head_clear(struct request_head *head);
