/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A blocking gRPC client for one connection and one call at a time. One thread; no event loop.
 *
 * Cancelling, and knowing that it is done: when the cancel descriptor becomes readable, the client resets the call
 * (RST_STREAM with CANCEL) and says GOAWAY. The server then cancels the operation, and closes the connection once the
 * handler has finished, that is, when everything has been rolled back. The client waits for that end for at most
 * linger_ms, and tells by `settled` whether it came. The connection cannot be used for another call after that.
 *
 * A deadline is the server's to keep: it cancels the operation, and answers DEADLINE_EXCEEDED when the handler has
 * finished. The client waits linger_ms longer than the deadline for that answer, and then gives up by itself.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include <stasis/error.h>
#include "rpc/metadata.h"
#include "rpc/status.h"
#include "rpc/tls.h"
#include "rpc/transport.h"

struct rpc_client;

/**
 * Connects to a UNIX socket.
 *
 * @return 0; -ECONNREFUSED with err and hint when no daemon listens there (also for an absent socket); -EACCES when the
 *         user may not connect; -ETIMEDOUT when its queue stays full for timeout_ms
 */
int rpc_client_connect(const char *path, int timeout_ms, struct rpc_client **ret, struct st_error **err);

/**
 * Connects by TCP and TLS (tls.h); the server has accepted our certificate when this returns.
 *
 * @param address "HOST:PORT"; the server's certificate must be for that host
 * @param timeout_ms for all of it; 0: none
 * @param cancel_fd gives up when it polls readable: -ECANCELED; 0 or negative: none
 * @return 0; -ECONNREFUSED, -ETIMEDOUT, -EACCES when either side does not accept the other's certificate, … with err
 */
int rpc_client_connect_tls(const char *address, struct rpc_tls *tls, int timeout_ms, int cancel_fd,
                           struct rpc_client **ret, struct st_error **err);

/** @param fd a connected stream socket, the client's from now on. Never NULL. */
struct rpc_client *rpc_client_new(int fd);

/** @param authority copied, what requests are addressed to; NULL: "localhost", and no TLS. @param transport taken */
struct rpc_client *rpc_client_new_transport(struct rpc_transport *transport, const char *authority);

struct rpc_client *rpc_client_free(struct rpc_client *client);
static inline void rpc_client_freep(struct rpc_client **client) {
        *client = rpc_client_free(*client);
}

/** A descriptor that is watched during a call (a terminal, a signalfd). */
struct rpc_watch {
        int fd;
        short events; /* of poll(2); 0: POLLIN */
        bool always;  /* also while so much is queued that nothing more should be sent */
        /**
         * Called when fd is readable (or what `events` says) or at its end; may call rpc_client_send() and
         * rpc_client_close_send(). Sets fd to -1 to stop watching.
         *
         * @return 0, or a negative errno (with err) that ends the call
         */
        int (*ready)(struct rpc_client *client, struct rpc_watch *watch, struct st_error **err);
        void *userdata;
};

/** Zero-initialise. */
struct rpc_options {
        int timeout_ms; /* the deadline; 0: none */
        /** Cancels the call when it polls readable; 0 or negative: none. */
        int cancel_fd;
        /** How long to wait for the server to be done after a cancellation, and, after the deadline, for its answer. */
        int linger_ms;
        /** Set when the call was cancelled: the server has finished with it, nothing of it goes on. May be NULL. */
        bool *settled;
        /**
         * Gets each message as it comes, for a stream of the server; owned by the client and gone afterwards. `ret` of
         * the call is not used then.
         *
         * @return 0: go on; 1: leave now, the call ends with 0 (the rest is not waited for); a negative errno:
         *         likewise, the call ends with that
         */
        int (*on_message)(struct rpc_client *client, const void *message, void *userdata);
        void *userdata;
        /** The call's input is a stream: rpc_client_send() sends more, rpc_client_close_send() ends it. */
        bool streaming;
        struct rpc_watch *watches;
        size_t n_watches;
        /** Takes the custom metadata of the trailers, also those of an error. May be NULL. */
        struct rpc_metadata *trailers;
        /** The status of the server; RPC_OK when it never came. May be NULL. */
        enum rpc_code *code;
        size_t message_limit; /* bytes of one response; 0: 64 MiB */
};

/**
 * Makes one call and waits for its end.
 *
 * @param method "/daemon.Daemon/Dump"
 * @param response the type of the answer
 * @param options may be NULL
 * @param ret the answer, free it with protobuf_c_message_free_unpacked(m, NULL); may be NULL
 * @return 0; a failure of the server: the errno of its status (status.h), err holds its message unchanged; -ECANCELED
 *         by cancel_fd; -ETIMEDOUT; -ECONNRESET when the daemon went away in the middle
 */
int rpc_client_call(struct rpc_client *client, const char *method, const ProtobufCMessage *request,
                    const ProtobufCMessageDescriptor *response, const struct rpc_options *options, void *ret,
                    struct st_error **err);

/** Sends one more message of the call that is running. From on_message or a watch. @return 0 or -errno */
int rpc_client_send(struct rpc_client *client, const ProtobufCMessage *message);

/** Ends the input of the call that is running. */
void rpc_client_close_send(struct rpc_client *client);

/**
 * Stops or goes on taking what the server sends: for one who cannot pass on what came. What has arrived already (1 MiB
 * at most) is still delivered. From on_message or a watch.
 */
void rpc_client_pause(struct rpc_client *client, bool pause);
