/* SPDX-License-Identifier: Apache-2.0 */

/* The server: its services, its listening sockets, its end. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "rpc/server_private.h"

#define DEFAULT_CONNECTIONS 1024
#define DEFAULT_CALLS 1024
#define ACCEPT_TURNS 16
#define BREATH_USEC 200000

static int on_drained(sd_event_source *source, void *userdata);

int rpc_server_new(sd_event *loop, const struct rpc_server_options *options, struct rpc_server **ret,
                   struct st_error **err) {
        struct rpc_server *server = NEW(struct rpc_server);
        int r;

        if (options)
                server->options = *options;
        if (server->options.message_limit == 0)
                server->options.message_limit = RPC_MESSAGE_LIMIT;
        if (server->options.max_connections == 0)
                server->options.max_connections = DEFAULT_CONNECTIONS;
        if (server->options.max_calls == 0)
                server->options.max_calls = DEFAULT_CALLS;
        TAILQ_INIT(&server->handshakes);
        server->loop = sd_event_ref(loop);
        r = sd_event_add_defer(loop, &server->drained, on_drained, server);
        if (r >= 0)
                r = sd_event_source_set_enabled(server->drained, SD_EVENT_OFF);
        if (r < 0)
                st_error_errno(err, r, "cannot make a server");
        else
                r = server_add_health(server, err);
        if (r < 0) {
                rpc_server_free(server);
                return r;
        }
        *ret = server;
        return 0;
}

static void close_listeners(struct rpc_server *server) {
        struct listener *listener;

        server->breath = sd_event_source_disable_unref(server->breath);
        handshakes_end(server); /* they know their listener */
        while ((listener = LIST_FIRST(&server->listeners))) {
                LIST_REMOVE(listener, link);
                sd_event_source_disable_unref(listener->source); /* closes the socket */
                free(listener);
        }
}

static void close_sessions(struct rpc_server *server) {
        struct session *session;

        while ((session = LIST_FIRST(&server->sessions)))
                session_free(session);
}

struct rpc_server *rpc_server_free(struct rpc_server *server) {
        struct rpc_call *call;

        if (!server)
                return NULL;
        server->draining = false;
        close_listeners(server);
        close_sessions(server);
        while ((call = LIST_FIRST(&server->orphans))) {
                LIST_REMOVE(call, link);
                call->server = NULL;
        }
        sd_event_source_disable_unref(server->drain_timer);
        sd_event_source_disable_unref(server->drained);
        sd_event_unref(server->loop);
        free(server->services);
        free(server);
        return NULL;
}

static const ProtobufCMethodDescriptor *find_descriptor(const ProtobufCServiceDescriptor *service, const char *name) {
        return protobuf_c_service_descriptor_get_method_by_name(service, name);
}

int rpc_server_add_service(struct rpc_server *server, const ProtobufCServiceDescriptor *service,
                           const struct rpc_method *methods, void *userdata, struct st_error **err) {
        for (size_t i = 0; i < server->n_services; i++)
                if (streq(server->services[i].descriptor->name, service->name))
                        return st_error_set(err, EEXIST, "the service %s is registered already", service->name);
        for (const struct rpc_method *method = methods; method->name; method++)
                if (!find_descriptor(service, method->name))
                        return st_error_set(err, EINVAL, "the service %s has no method %s", service->name,
                                            method->name);
        GROW(server->services, server->n_services, server->services_room);
        server->services[server->n_services++] =
                (struct service){ .descriptor = service, .methods = methods, .userdata = userdata };
        return 0;
}

/* "/daemon.Daemon/Dump" @return the name of the method when the path is of that service, NULL: it is not */
static const char *method_of(const struct service *service, const char *path) {
        const char *name = *path == '/' ? text_after(path + 1, service->descriptor->name) : NULL;
        return name && *name == '/' ? name + 1 : NULL;
}

const struct rpc_method *server_find_method(struct rpc_server *server, const char *path,
                                            const ProtobufCMethodDescriptor **ret, void **ret_userdata,
                                            struct st_error **err) {
        for (size_t i = 0; i < server->n_services; i++) {
                const struct service *service = server->services + i;
                const char *name = method_of(service, path);
                const ProtobufCMethodDescriptor *descriptor = name ? find_descriptor(service->descriptor, name) : NULL;

                if (!descriptor)
                        continue;
                for (const struct rpc_method *method = service->methods; method->name; method++)
                        if (streq(method->name, name)) {
                                *ret = descriptor;
                                *ret_userdata = service->userdata;
                                return method;
                        }
                st_error_set(err, EOPNOTSUPP, "the method %s is not implemented", path);
                return NULL;
        }
        st_error_set(err, EOPNOTSUPP, "unknown method %s", path);
        return NULL;
}

/*
 * Without descriptors accept() fails and the socket stays readable: the loop would spin. So nobody is accepted for a
 * moment; the clients wait in the socket's queue.
 */
static int on_breath(sd_event_source *source, uint64_t usec, void *userdata) {
        struct rpc_server *server = userdata;
        struct listener *listener;

        (void)source;
        (void)usec;
        server->breath = sd_event_source_unref(server->breath);
        for (listener = LIST_FIRST(&server->listeners); listener; listener = LIST_NEXT(listener, link))
                (void)sd_event_source_set_enabled(listener->source, SD_EVENT_ON);
        return 0;
}

static void take_breath(struct rpc_server *server) {
        struct listener *listener;

        if (server->breath || sd_event_add_time_relative(server->loop, &server->breath, CLOCK_MONOTONIC, BREATH_USEC,
                                                         1000, on_breath, server) < 0)
                return;
        for (listener = LIST_FIRST(&server->listeners); listener; listener = LIST_NEXT(listener, link))
                (void)sd_event_source_set_enabled(listener->source, SD_EVENT_OFF);
}

bool server_has_room(const struct rpc_server *server, bool remote) {
        return server->n_sessions < server->options.max_connections &&
               (!remote || server->n_remote < (server->options.max_connections + 1) / 2);
}

void rpc_server_set_admission(struct rpc_server *server, rpc_admit_fn admit, void *userdata) {
        server->admit = admit;
        server->admit_userdata = userdata;
}

static void accepted(struct listener *listener, int fd) {
        struct rpc_server *server = listener->server;
        struct rpc_peer *peer = NULL;

        if (!server_has_room(server, listener->tls != NULL)) {
                close(fd);
                return;
        }
        if (listener->tls) {
                handshake_start(listener, fd);
                return;
        }
        if (rpc_peer_of_socket(fd, &peer) < 0) {
                close(fd);
                return;
        }
        /* A connection that cannot be served is closed: its client sees that, and nobody else is concerned. */
        (void)session_new(server, rpc_transport_socket(fd), peer, NULL);
        rpc_peer_unref(peer);
}

static int on_accept(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct listener *listener = userdata;

        (void)source;
        (void)events;
        for (unsigned turn = 0; turn < ACCEPT_TURNS; turn++) {
                int client = io_accept(fd);

                if (client >= 0)
                        accepted(listener, client);
                else if (client == -EMFILE || client == -ENFILE || client == -ENOMEM || client == -ENOBUFS) {
                        take_breath(listener->server);
                        break;
                } else if (client != -ECONNABORTED && client != -EINTR)
                        break;
        }
        return 0;
}

static int add_listener(struct rpc_server *server, int fd, const struct listener *values, struct st_error **err) {
        _cleanup_close_ int owned = fd;
        struct listener *listener;
        int r = io_set_nonblocking(fd, true);

        if (r < 0)
                return st_error_errno(err, r, "cannot listen");
        listener = NEW(struct listener);
        *listener = *values;
        listener->server = server;
        r = sd_event_add_io(server->loop, &listener->source, fd, EPOLLIN, on_accept, listener);
        if (r >= 0)
                r = sd_event_source_set_io_fd_own(listener->source, true);
        if (r < 0) {
                sd_event_source_disable_unref(listener->source);
                free(listener);
                return st_error_errno(err, r, "cannot listen");
        }
        TAKE_FD(owned);
        LIST_INSERT_HEAD(&server->listeners, listener, link);
        return 0;
}

int rpc_server_listen(struct rpc_server *server, int fd, struct st_error **err) {
        return add_listener(server, fd, &(const struct listener){ 0 }, err);
}

int rpc_server_listen_tls(struct rpc_server *server, int fd, struct rpc_tls *tls, rpc_identify_fn identify,
                          void *userdata, struct st_error **err) {
        const struct listener values = { .tls = tls, .identify = identify, .userdata = userdata };

        return add_listener(server, fd, &values, err);
}

int rpc_server_serve(struct rpc_server *server, struct rpc_transport *transport, struct rpc_peer *peer,
                     struct st_error **err) {
        return session_new(server, transport, peer, err);
}

static int on_drained(sd_event_source *source, void *userdata) {
        struct rpc_server *server = userdata;

        (void)source;
        server->draining = false;
        server->drain_timer = sd_event_source_disable_unref(server->drain_timer);
        if (server->drain_done)
                server->drain_done(server->drain_userdata); /* may free the server */
        return 0;
}

void server_session_gone(struct rpc_server *server) {
        server->n_sessions--;
        if (server->draining && server->n_sessions == 0)
                (void)sd_event_source_set_enabled(server->drained, SD_EVENT_ONESHOT);
}

static int on_drain_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        (void)source;
        (void)usec;
        close_sessions(userdata);
        return 0;
}

int rpc_server_drain(struct rpc_server *server, uint64_t timeout_ms, void (*done)(void *userdata), void *userdata,
                     struct st_error **err) {
        struct session *session;
        int r;

        assert(!server->draining && !server->drain_timer);
        close_listeners(server);
        r = sd_event_add_time_relative(server->loop, &server->drain_timer, CLOCK_MONOTONIC, timeout_ms * 1000, 1000,
                                       on_drain_timeout, server);
        if (r < 0)
                return st_error_errno(err, r, "cannot set the timer of the shutdown");
        server->draining = true;
        server->drain_done = done;
        server->drain_userdata = userdata;
        for (session = LIST_FIRST(&server->sessions); session; session = LIST_NEXT(session, link))
                session_leave(session);
        if (server->n_sessions == 0)
                (void)sd_event_source_set_enabled(server->drained, SD_EVENT_ONESHOT);
        return 0;
}

size_t rpc_server_calls(const struct rpc_server *server) {
        return server->n_calls;
}

size_t rpc_server_connections(const struct rpc_server *server) {
        return server->n_sessions;
}
