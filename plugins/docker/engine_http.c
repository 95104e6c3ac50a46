/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_http.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <curl/curl.h>

#include "../common/cleanup.h"
#include "engine_reply.h"
#include "fdio.h"

#define CONNECT_LIMIT 2000L /* milliseconds */
#define STALL_LIMIT 60L     /* seconds */

struct engine_http {
        const struct engine_address *address;
        CURLM *multi;
        CURL *easy;
        int cancel_fd;
};

/* What the callbacks of one exchange share. */
struct exchange {
        struct engine_http *http;
        const struct engine_http_request *request;
        struct engine_http_answer *answer;
        struct st_error *error; /* of a callback; then libcurl's own code says nothing */
        char text[CURL_ERROR_SIZE];
};

static void initialise(void) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
}

int engine_http_open(const struct engine_address *address, int cancel_fd, struct engine_http **ret,
                     struct st_error **err) {
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        pthread_once(&once, initialise);

        struct engine_http *http = calloc(1, sizeof(*http));
        if (http) {
                http->address = address;
                http->cancel_fd = cancel_fd;
                http->multi = curl_multi_init();
                http->easy = curl_easy_init();
        }
        if (!http || !http->multi || !http->easy) {
                engine_http_close(http);
                return st_error_errno(err, ENOMEM, "cannot prepare a connection to the Docker engine");
        }
        *ret = http;
        return 0;
}

struct engine_http *engine_http_close(struct engine_http *http) {
        if (http) {
                curl_easy_cleanup(http->easy);
                curl_multi_cleanup(http->multi);
                free(http);
        }
        return NULL;
}

static int keep(struct exchange *exchange, const char *data, size_t size) {
        struct engine_http_answer *answer = exchange->answer;

        if (size > ENGINE_REPLY_MAX - answer->size)
                return st_error_set(&exchange->error, EPROTO, "the answer has more than %zu MiB",
                                    ENGINE_REPLY_MAX >> 20);
        if (answer->size + size >= answer->room) {
                size_t room = answer->room ? answer->room : 4096;
                while (room <= answer->size + size)
                        room *= 2;
                char *body = realloc(answer->body, room);
                if (!body)
                        return st_error_errno(&exchange->error, ENOMEM, "cannot keep the answer");
                answer->body = body;
                answer->room = room;
        }
        memcpy(answer->body + answer->size, data, size);
        answer->size += size;
        answer->body[answer->size] = 0;
        return 0;
}

static size_t on_data(char *data, size_t unit, size_t n, void *userdata) {
        struct exchange *exchange = userdata;
        int fd = exchange->request->download_fd;
        long status = 0;
        int r;

        curl_easy_getinfo(exchange->http->easy, CURLINFO_RESPONSE_CODE, &status);
        if (fd >= 0 && status >= 200 && status <= 299)
                r = fdio_write(fd, data, unit * n, exchange->http->cancel_fd, "the archive", &exchange->error);
        else
                r = keep(exchange, data, unit * n);
        return r < 0 ? CURL_WRITEFUNC_ERROR : unit * n;
}

static size_t on_upload(char *data, size_t unit, size_t n, void *userdata) {
        struct exchange *exchange = userdata;
        ssize_t size = fdio_read(exchange->request->upload_fd, data, unit * n, exchange->http->cancel_fd, "the archive",
                                 &exchange->error);
        return size < 0 ? CURL_READFUNC_ABORT : (size_t)size;
}

/* libcurl says only "Couldn't connect": the reason is in the errno of a connect(2) of our own. */
static int why_no_socket(const char *path) {
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return errno;
        memcpy(name.sun_path, path, strnlen(path, sizeof(name.sun_path) - 1));
        return connect(fd, (struct sockaddr *)&name, sizeof(name)) < 0 ? errno : ECONNREFUSED;
}

static int no_connection(struct engine_http *http, const char *text, struct st_error **err) {
        const char *address = http->address->text;
        int r;

        if (!http->address->socket) {
                r = st_error_set(err, ECONNREFUSED, "cannot reach the Docker engine at %s: %s", address, text);
                st_error_hint(err, "is the address in DOCKER_HOST right, and does dockerd listen there?");
                return r;
        }
        int number = why_no_socket(http->address->socket);
        if (number == ENOENT || number == ECONNREFUSED) {
                r = st_error_set(err, number, "the Docker engine does not run at %s: %s", address,
                                 number == ENOENT ? "no such socket" : "nobody listens at the socket");
                st_error_hint(err, "start dockerd, or set DOCKER_HOST to where it listens");
        } else if (number == EACCES || number == EPERM) {
                r = st_error_set(err, EACCES, "may not use the Docker engine at %s: permission denied", address);
                st_error_hint(err, "run as root, or as a member of the group that owns the socket");
        } else if (number == EAGAIN) {
                r = st_error_set(err, ETIMEDOUT, "the Docker engine at %s accepts no connections", address);
                st_error_hint(err, "dockerd hangs: see its log, or restart it");
        } else
                r = st_error_errno(err, number, "cannot connect to the Docker engine at %s", address);
        return r;
}

static int timed_out(struct engine_http *http, const struct engine_http_request *request, struct st_error **err) {
        int r;

        if (request->limit > 0)
                r = st_error_set(err, ETIMEDOUT, "the Docker engine at %s did not answer %s %s within %g s",
                                 http->address->text, request->method, request->path, request->limit / 1000.0);
        else
                r = st_error_set(err, ETIMEDOUT, "the Docker engine at %s stopped in the middle of %s %s",
                                 http->address->text, request->method, request->path);
        st_error_hint(err, "dockerd hangs or is overloaded: see its log, or restart it");
        return r;
}

static int failed(struct exchange *exchange, CURLcode code, struct st_error **err) {
        struct engine_http *http = exchange->http;
        const char *text = *exchange->text ? exchange->text : curl_easy_strerror(code);
        int r;

        if (exchange->error) {
                r = st_error_move(err, exchange->error);
                exchange->error = NULL;
                if (r != -ECANCELED)
                        st_error_wrap(err, "the Docker engine at %s", http->address->text);
                return r;
        }
        switch (code) {
        case CURLE_COULDNT_CONNECT:
        case CURLE_COULDNT_RESOLVE_HOST:
                return no_connection(http, text, err);
        case CURLE_OPERATION_TIMEDOUT:
                return timed_out(http, exchange->request, err);
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_SSL_CERTPROBLEM:
                r = st_error_set(err, EACCES, "no TLS with the Docker engine at %s: %s", http->address->text, text);
                st_error_hint(err, "see the certificates in %s",
                              http->address->cert_path ? http->address->cert_path : "use");
                return r;
        case CURLE_GOT_NOTHING:
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
        case CURLE_PARTIAL_FILE:
                r = st_error_set(err, ECONNRESET, "the Docker engine at %s ended the connection in the middle of %s %s",
                                 http->address->text, exchange->request->method, exchange->request->path);
                st_error_hint(err, "see the log of dockerd");
                return r;
        default:
                return st_error_set(err, EPROTO, "what listens at %s is no Docker engine: %s", http->address->text,
                                    text);
        }
}

static int64_t now_ms(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Runs the prepared transfer to its end. */
static int drive(struct exchange *exchange, struct st_error **err) {
        struct engine_http *http = exchange->http;
        unsigned limit = exchange->request->limit;
        /* libcurl watches the limit too; this one also holds while it waits for a resolver. */
        int64_t end = now_ms() + limit + 500;
        int running = 1;

        for (;;) {
                struct curl_waitfd cancel = { .fd = http->cancel_fd, .events = CURL_WAIT_POLLIN };
                if (curl_multi_perform(http->multi, &running) != CURLM_OK)
                        return st_error_set(err, EIO, "cannot talk to the Docker engine at %s", http->address->text);
                if (running == 0)
                        break;
                if (limit > 0 && now_ms() > end)
                        return timed_out(http, exchange->request, err);
                if (curl_multi_poll(http->multi, &cancel, http->cancel_fd >= 0, 1000, NULL) != CURLM_OK)
                        return st_error_set(err, EIO, "cannot wait for the Docker engine at %s", http->address->text);
                int r = fdio_check(http->cancel_fd, err);
                if (r < 0)
                        return r;
        }

        int left;
        for (CURLMsg *message; (message = curl_multi_info_read(http->multi, &left));)
                if (message->msg == CURLMSG_DONE && message->data.result != CURLE_OK)
                        return failed(exchange, message->data.result, err);
        return 0;
}

static void set_tls(CURL *easy, const char *directory) {
        static const struct {
                CURLoption option;
                const char *file;
        } files[] = { { CURLOPT_CAINFO, "ca.pem" }, { CURLOPT_SSLCERT, "cert.pem" }, { CURLOPT_SSLKEY, "key.pem" } };

        for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
                _cleanup_free_ char *path = NULL;
                if (asprintf(&path, "%s/%s", directory, files[i].file) < 0)
                        path = NULL;
                /* Without memory it has no certificate, and fails. */
                curl_easy_setopt(easy, files[i].option, path);
        }
        curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
}

void engine_http_set_address(void *easy, const struct engine_address *address) {
        if (address->socket)
                curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, address->socket);
        if (address->cert_path)
                set_tls(easy, address->cert_path);
}

static void set_connection(struct engine_http *http, unsigned limit) {
        CURL *easy = http->easy;
        bool stream = limit == 0;

        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                         !stream && limit < CONNECT_LIMIT ? (long)limit : CONNECT_LIMIT);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)limit);
        engine_http_set_address(easy, http->address);
}

static struct curl_slist *set_request(struct exchange *exchange, const char *url) {
        const struct engine_http_request *request = exchange->request;
        CURL *easy = exchange->http->easy;
        struct curl_slist *headers = NULL;

        curl_easy_setopt(easy, CURLOPT_URL, url);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, exchange->text);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
        if (request->upload_fd >= 0) {
                headers = curl_slist_append(headers, "Content-Type: application/x-tar");
                /* Ask nobody for leave to send: the engine answers an error either way. */
                headers = curl_slist_append(headers, "Expect:");
                curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
                curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_upload);
                curl_easy_setopt(easy, CURLOPT_READDATA, exchange);
        } else if (strcmp(request->method, "POST") == 0) {
                headers =
                        curl_slist_append(headers, request->body ? "Content-Type: application/json" : "Content-Type:");
                headers = curl_slist_append(headers, "Expect:");
                curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                                 (curl_off_t)(request->body ? strlen(request->body) : 0));
                curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body ? request->body : "");
        }
        if (request->upload_fd >= 0 || request->download_fd >= 0) {
                curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
                curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, STALL_LIMIT);
        }
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
        return headers;
}

int engine_http_exchange(struct engine_http *http, const struct engine_http_request *request,
                         struct engine_http_answer *answer, struct st_error **err) {
        struct exchange exchange = { .http = http, .request = request, .answer = answer };
        _cleanup_free_ char *url = NULL;
        int r;

        *answer = (struct engine_http_answer){ 0 };
        r = fdio_check(http->cancel_fd, err);
        if (r < 0)
                return r;
        if (asprintf(&url, "%s%s", http->address->url, request->path) < 0) {
                url = NULL;
                return st_error_errno(err, ENOMEM, "cannot ask the Docker engine");
        }

        curl_easy_reset(http->easy); /* keeps the connection */
        set_connection(http, request->limit);
        struct curl_slist *headers = set_request(&exchange, url);
        if (curl_multi_add_handle(http->multi, http->easy) == CURLM_OK) {
                r = drive(&exchange, err);
                curl_multi_remove_handle(http->multi, http->easy);
        } else
                r = st_error_errno(err, ENOMEM, "cannot ask the Docker engine");
        curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &answer->status);
        curl_slist_free_all(headers);
        st_error_free(exchange.error);
        return r;
}
