/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A gRPC server on an sd-event loop. Everything happens on the loop's thread: handlers and callbacks are called from
 * it, and all functions are to be called from it. Nothing here blocks.
 *
 * The life of a call:
 *
 *     handle(call)                     the request is complete; the handler only starts things
 *     rpc_call_send(call, message)     later, from any event source of the loop: once, or more often for a stream
 *     rpc_call_trailer(call, …)        optionally
 *     rpc_call_finish(call, err)       exactly once, whatever happened, also after a cancellation
 *
 * The pointer stays valid until rpc_call_finish(); take a reference to use it longer. When the client goes away,
 * resets the call or its deadline passes, the callback of rpc_call_on_cancel() is called, once; what is sent from then
 * on is dropped, and the handler still finishes. A deadline that passes answers DEADLINE_EXCEEDED when the handler
 * finishes, with the handler's own error text if it has one.
 *
 * A connection whose client sent GOAWAY is closed as soon as the last of its calls has finished, reset ones too: that
 * is how a client that cancelled learns that all has been rolled back (see client.h).
 *
 * Built in: grpc.health.v1.Health/Check answers SERVING for "" and each registered service, NOT_FOUND for others. What
 * nobody registered answers UNIMPLEMENTED with its name.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>
#include <systemd/sd-event.h>

#include <stasis/error.h>
#include "rpc/tls.h"
#include "rpc/transport.h"

struct rpc_server;
struct rpc_call;

/** The largest message that is received by default: 16 MiB. */
#define RPC_MESSAGE_LIMIT ((size_t)16 << 20)

struct rpc_server_options {
        size_t message_limit;     /* bytes of one request; 0: RPC_MESSAGE_LIMIT */
        unsigned max_connections; /* further ones are closed at once, by TLS those beyond the half; 0: 1024 */
        unsigned max_calls;       /* at once on one connection, further ones wait in the client; 0: 1024 */
};

/**
 * Starts a call. Called on the loop, once for each call; with `streaming` at its first message, else when the request
 * is complete. Must not block. May finish the call at once.
 */
typedef void (*rpc_handle_fn)(struct rpc_call *call, void *userdata);

struct rpc_method {
        const char *name; /* as in the service's descriptor: "Dump" */
        rpc_handle_fn handle;
        bool streaming; /* the client sends a stream: see rpc_call_on_message() */
};

/** Makes a server without listeners. @param options may be NULL; @return 0 or -errno with err */
int rpc_server_new(sd_event *loop, const struct rpc_server_options *options, struct rpc_server **ret,
                   struct st_error **err);

/**
 * Cancels all calls (their callbacks are called), closes all connections and listeners. Calls that are not finished
 * stay valid until their handlers finish them. Not to be called from a handler or callback of the server. @return NULL
 */
struct rpc_server *rpc_server_free(struct rpc_server *server);
static inline void rpc_server_freep(struct rpc_server **server) {
        *server = rpc_server_free(*server);
}

/**
 * Registers methods of a service under the names of its protobuf-c descriptor ("/daemon.Daemon/Dump"). Methods of the
 * service that the table leaves out answer UNIMPLEMENTED.
 *
 * @param methods ended by a NULL name; kept by the server, must outlive it
 * @param userdata handed to the handlers
 * @return 0; -EINVAL with err for a name that the service does not have; -EEXIST when it is registered already
 */
int rpc_server_add_service(struct rpc_server *server, const ProtobufCServiceDescriptor *service,
                           const struct rpc_method *methods, void *userdata, struct st_error **err);

/**
 * Who may call what: asked on the loop for each call of a registered method, when its headers are there and nothing of
 * its request has been taken yet. The health service is everybody's. @return 0, or a negative errno with err
 */
typedef int (*rpc_admit_fn)(const struct rpc_call *call, void *userdata, struct st_error **err);

/** Sets it; without one everybody may call everything. To be set before the first listener. */
void rpc_server_set_admission(struct rpc_server *server, rpc_admit_fn admit, void *userdata);

/**
 * Accepts connections on a listening UNIX stream socket. May be called for several sockets.
 *
 * @param fd the server's from now on, also on failure
 */
int rpc_server_listen(struct rpc_server *server, int fd, struct st_error **err);

/**
 * Called for each connection by TLS, on the loop, before its first call: may change who the peer counts as (its uid and
 * gid are RPC_PEER_NOBODY).
 */
typedef void (*rpc_identify_fn)(struct rpc_peer *peer, void *userdata);

/**
 * As rpc_server_listen(), for a TCP socket and TLS. A peer has 10 s for its handshake; failures are logged. A stalled
 * handshake delays nobody; when there are 256 the oldest is given up.
 *
 * @param tls the caller's; must outlive the listener
 * @param identify may be NULL
 */
int rpc_server_listen_tls(struct rpc_server *server, int fd, struct rpc_tls *tls, rpc_identify_fn identify,
                          void *userdata, struct st_error **err);

/**
 * Serves one connection whose transport exists already (from a listener of another kind, or a test).
 *
 * @param transport taken, also on failure
 * @param peer a reference is taken
 */
int rpc_server_serve(struct rpc_server *server, struct rpc_transport *transport, struct rpc_peer *peer,
                     struct st_error **err);

/**
 * Shuts down gently: closes the listeners, tells every client by GOAWAY, lets calls that are running finish, and ends
 * what is still there after timeout_ms (their cancel callbacks are called).
 *
 * @param done called once, from the loop, when the last connection is gone; rpc_server_free() may follow on the next
 *        turn of the loop, or after sd_event_loop() returned
 */
int rpc_server_drain(struct rpc_server *server, uint64_t timeout_ms, void (*done)(void *userdata), void *userdata,
                     struct st_error **err);

/** @return how many calls are not finished, and how many connections are open */
size_t rpc_server_calls(const struct rpc_server *server);
size_t rpc_server_connections(const struct rpc_server *server);

struct rpc_call *rpc_call_ref(struct rpc_call *call);
/** @return NULL */
struct rpc_call *rpc_call_unref(struct rpc_call *call);

/** @return "/daemon.Daemon/Dump"; valid as long as the call */
const char *rpc_call_method(const struct rpc_call *call);

/** @return who calls; valid as long as the call */
const struct rpc_peer *rpc_call_peer(const struct rpc_call *call);

/** @return CLOCK_MONOTONIC in microseconds, UINT64_MAX: the client set none */
uint64_t rpc_call_deadline(const struct rpc_call *call);

/** @return the request (the first one of a stream), of the type that the descriptor says; owned by the call */
const void *rpc_call_request(const struct rpc_call *call);

/** Takes the request out of the call; free it with protobuf_c_message_free_unpacked(m, NULL). NULL the second time. */
void *rpc_call_take_request(struct rpc_call *call);

/**
 * Called once when the client resets the call (reason -ECANCELED: it does not want it any more), its connection ends or
 * the server is freed (-ECONNRESET), or its deadline passes (-ETIMEDOUT). From the loop, and never from inside another
 * rpc_ function than rpc_call_on_cancel() itself and rpc_server_free(). May finish the call.
 */
typedef void (*rpc_cancel_fn)(struct rpc_call *call, int reason, void *userdata);

/** Sets the callback (NULL: none). A call that is cancelled already calls it before this function returns. */
void rpc_call_on_cancel(struct rpc_call *call, rpc_cancel_fn callback, void *userdata);

/** @return 0, or why the call is cancelled: -ECANCELED, -ECONNRESET or -ETIMEDOUT */
int rpc_call_cancelled(const struct rpc_call *call);

/**
 * Called for each message of the client's stream after the first, and with NULL when the client closed its side.
 *
 * @param message owned by the server, gone when the callback returns
 */
typedef void (*rpc_message_fn)(struct rpc_call *call, const void *message, void *userdata);

/** Sets the callback of a `streaming` method; to be set in its handler, else further messages are dropped. */
void rpc_call_on_message(struct rpc_call *call, rpc_message_fn callback, void *userdata);

/**
 * Stops (or goes on) taking the client's messages: what is on its way is held back by flow control, so at most the
 * window (1 MiB) and one message more arrive. For a stream whose messages cannot be used up at once.
 */
void rpc_call_pause(struct rpc_call *call, bool pause);

/**
 * Sends a message of the method's output type. It is packed at once: the caller keeps it. Strings that are not UTF-8
 * are sent with '?' for each bad byte, because Go and Python refuse the whole message otherwise.
 *
 * @return 0; -ECANCELED when the call is cancelled (nothing is to be done about it); -EMSGSIZE for more than 4 GiB;
 *         -ENOMEM
 */
int rpc_call_send(struct rpc_call *call, const ProtobufCMessage *message);

/** @return bytes that are queued and not yet taken by the connection: a stream should wait while they are many */
size_t rpc_call_queued(const struct rpc_call *call);

/** Called each time the queue has become shorter than 64 KiB after it was longer. */
void rpc_call_on_drained(struct rpc_call *call, void (*callback)(struct rpc_call *call, void *userdata),
                         void *userdata);

/**
 * Adds metadata that goes with the status. At most 4,000 bytes in all, as base64 (3,000 as bytes): the clients of
 * gRPC's C core refuse more than 8 KiB of trailers.
 *
 * @param name lower case; one that ends in "-bin" may have any bytes as its value (sent as base64), another one only
 *        printable ASCII
 * @return 0; -E2BIG when there is too much; -EINVAL for a bad name or value
 */
int rpc_call_trailer(struct rpc_call *call, const char *name, const void *value, size_t size);

/**
 * Ends the call: with OK, or with the code of the error's errno (status.h) and its whole message. The error stays the
 * caller's. Nothing but rpc_call_unref() may be done with the call after it.
 */
void rpc_call_finish(struct rpc_call *call, struct st_error *error);
