/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/metrics_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/library.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "daemon/metrics.h"
#include "rpc/address.h"

#define LIBRARY "libmicrohttpd.so.12"
#define CONNECTIONS_MAX 16
/* Who does not finish a request within this is disconnected. */
#define TIMEOUT_S 10

#define FUNCTIONS(F)                       \
        F(MHD_add_response_header)         \
        F(MHD_create_response_from_buffer) \
        F(MHD_destroy_response)            \
        F(MHD_get_daemon_info)             \
        F(MHD_get_timeout)                 \
        F(MHD_queue_response)              \
        F(MHD_run)                         \
        F(MHD_start_daemon)                \
        F(MHD_stop_daemon)

struct metrics_server {
#define MEMBER(name) __typeof__(name) *name;
        FUNCTIONS(MEMBER)
#undef MEMBER
        struct MHD_Daemon *http;
        sd_event_source *io, *timer;
        char *path; /* of a UNIX socket, ours to remove */
        metrics_page_fn page;
        void *userdata;
};

static int load(struct metrics_server *server, struct st_error **err) {
        static const struct library_function functions[] = {
#define ROW(name) { #name, offsetof(struct metrics_server, name) },
                FUNCTIONS(ROW)
#undef ROW
        };
        _cleanup_free_ char *problem = library_load(LIBRARY, functions, ELEMENTSOF(functions), server);

        if (!problem)
                return 0;
        st_error_set(err, ENOPKG, "cannot load %s, which metrics need: %s", LIBRARY, problem);
        st_error_hint(err, "install libmicrohttpd, or set Metrics.Enabled to false");
        return -ENOPKG;
}

static enum MHD_Result answer(struct metrics_server *server, struct MHD_Connection *connection, unsigned status,
                              const char *type, char *text, size_t size) {
        struct MHD_Response *response = server->MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE);
        enum MHD_Result result;

        if (!response) {
                free(text);
                return MHD_NO;
        }
        (void)server->MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
        if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
                (void)server->MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
        result = server->MHD_queue_response(connection, status, response);
        server->MHD_destroy_response(response);
        return result;
}

static enum MHD_Result refuse(struct metrics_server *server, struct MHD_Connection *connection, unsigned status,
                              const char *why) {
        return answer(server, connection, status, "text/plain; charset=utf-8", xstrdup(why), strlen(why));
}

/* It is called once for the head of a request, then for its body, then to answer; `state` tells the first. */
static enum MHD_Result on_request(void *userdata, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *body, size_t *body_size,
                                  void **state) {
        struct metrics_server *server = userdata;
        static int seen;
        size_t size;

        (void)version;
        (void)body;
        if (!*state) {
                *state = &seen;
                return MHD_YES;
        }
        if (*body_size > 0) {
                *body_size = 0;
                return MHD_YES;
        }
        if (!streq(url, "/metrics"))
                return refuse(server, connection, MHD_HTTP_NOT_FOUND, "there is only /metrics\n");
        if (!streq(method, "GET") && !streq(method, "HEAD"))
                return refuse(server, connection, MHD_HTTP_METHOD_NOT_ALLOWED, "metrics can only be read\n");

        char *text = server->page(&size, server->userdata);
        if (!text)
                return refuse(server, connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "there is no memory for the page\n");
        return answer(server, connection, MHD_HTTP_OK, METRICS_CONTENT_TYPE, text, size);
}

/* It has time-outs of its own, which it looks at when it runs. */
static void run(struct metrics_server *server) {
        MHD_UNSIGNED_LONG_LONG ms;

        (void)server->MHD_run(server->http);
        if (server->MHD_get_timeout(server->http, &ms) == MHD_YES) {
                (void)sd_event_source_set_time_relative(server->timer, ms * 1000);
                (void)sd_event_source_set_enabled(server->timer, SD_EVENT_ONESHOT);
        } else
                (void)sd_event_source_set_enabled(server->timer, SD_EVENT_OFF);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        (void)source;
        (void)fd;
        (void)events;
        run(userdata);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        (void)source;
        (void)usec;
        run(userdata);
        return 0;
}

static bool is_loopback(int fd) {
        union {
                struct sockaddr any;
                struct sockaddr_in v4;
                struct sockaddr_in6 v6;
        } address;
        socklen_t size = sizeof(address);

        if (getsockname(fd, &address.any, &size) < 0)
                return false;
        if (address.any.sa_family == AF_INET)
                return ntohl(address.v4.sin_addr.s_addr) >> 24 == 127;
        return address.any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address.v6.sin6_addr);
}

/* A name may mean several addresses: the first serves. All must be this machine's own. */
static int listen_tcp(const char *text, struct st_error **err) {
        struct rpc_address address = { 0 };
        int fds[RPC_ADDRESS_FDS], n, r;

        r = rpc_address_parse(text, &address, err);
        if (r < 0)
                return r;
        n = rpc_address_listen(&address, fds, err);
        rpc_address_clear(&address);
        if (n < 0)
                return n;
        r = fds[0];
        for (int i = 0; i < n; i++)
                if (r >= 0 && !is_loopback(fds[i])) {
                        r = st_error_set(err, EPERM, "Metrics.Address: %s is reached from outside", text);
                        st_error_hint(err, "metrics have no authentication: use 127.0.0.1:PORT or a path");
                }
        for (int i = r < 0 ? 0 : 1; i < n; i++)
                close(fds[i]);
        return r;
}

static int listen_at(struct metrics_server *server, const char *address, struct st_error **err) {
        int fd;

        if (!strchr(address, '/'))
                return listen_tcp(address, err);
        fd = io_listen_unix(address, 0600, CONNECTIONS_MAX);
        if (fd < 0)
                return st_error_errno(err, fd, "cannot listen at %s (Metrics.Address)", address);
        server->path = path_absolute(address);
        return fd;
}

static int start(struct metrics_server *server, sd_event *loop, int fd, struct st_error **err) {
        const union MHD_DaemonInfo *info;
        int r;

        (void)io_set_nonblocking(fd, true);
        server->http =
                server->MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, server, MHD_OPTION_LISTEN_SOCKET, fd,
                                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                                         MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_S, MHD_OPTION_END);
        if (!server->http) {
                close(fd);
                return st_error_set(err, EIO, "cannot start the HTTP server of the metrics");
        }
        info = server->MHD_get_daemon_info(server->http, MHD_DAEMON_INFO_EPOLL_FD);
        r = info ? sd_event_add_io(loop, &server->io, info->epoll_fd, EPOLLIN, on_io, server) : -EIO;
        if (r >= 0)
                r = sd_event_add_time_relative(loop, &server->timer, CLOCK_MONOTONIC, 0, 1000, on_timer, server);
        if (r >= 0)
                r = sd_event_source_set_enabled(server->timer, SD_EVENT_OFF);
        return r < 0 ? st_error_errno(err, r, "cannot watch the HTTP server of the metrics") : 0;
}

int metrics_server_new(sd_event *loop, const char *address, metrics_page_fn page, void *userdata,
                       struct metrics_server **ret, struct st_error **err) {
        struct metrics_server *server = NEW(struct metrics_server);
        int r;

        server->page = page;
        server->userdata = userdata;
        r = load(server, err);
        if (r >= 0)
                r = listen_at(server, address, err);
        if (r >= 0)
                r = start(server, loop, r, err);
        if (r < 0) {
                metrics_server_free(server);
                return r;
        }
        *ret = server;
        return 0;
}

struct metrics_server *metrics_server_free(struct metrics_server *server) {
        if (!server)
                return NULL;
        sd_event_source_disable_unref(server->io);
        sd_event_source_disable_unref(server->timer);
        if (server->http)
                server->MHD_stop_daemon(server->http);
        if (server->path)
                (void)unlink(server->path);
        free(server->path);
        free(server);
        return NULL;
}
