/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_stream.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <curl/curl.h>

#include "../common/cleanup.h"
#include "engine_address.h"
#include "engine_http.h"
#include "engine_reply.h"

/* Of the engine's answer before the bytes begin. */
#define HEAD_MAX 16384

struct engine_stream {
        struct engine_address address;
        CURL *easy;
        curl_socket_t fd;
        char head[HEAD_MAX + 1]; /* the answer, and what came with it */
        size_t size, at;
};

struct engine_stream *engine_stream_close(struct engine_stream *stream) {
        if (stream) {
                curl_easy_cleanup(stream->easy);
                engine_address_clear(&stream->address);
                free(stream);
        }
        return NULL;
}

static void stream_freep(struct engine_stream **stream) {
        *stream = engine_stream_close(*stream);
}

int engine_stream_fd(const struct engine_stream *stream) {
        return stream->fd;
}

static ssize_t receive(struct engine_stream *stream, void *data, size_t size) {
        size_t n = 0;

        switch (curl_easy_recv(stream->easy, data, size, &n)) {
        case CURLE_OK:
                return (ssize_t)n;
        case CURLE_AGAIN:
                return -EAGAIN;
        default:
                return 0;
        }
}

ssize_t engine_stream_read(struct engine_stream *stream, void *data, size_t size) {
        size_t n = stream->size - stream->at;

        if (n == 0)
                return receive(stream, data, size);
        n = n < size ? n : size;
        memcpy(data, stream->head + stream->at, n);
        stream->at += n;
        return (ssize_t)n;
}

ssize_t engine_stream_write(struct engine_stream *stream, const void *data, size_t size) {
        size_t n = 0;

        switch (curl_easy_send(stream->easy, data, size, &n)) {
        case CURLE_OK:
                return n > 0 ? (ssize_t)n : -EAGAIN;
        case CURLE_AGAIN:
                return -EAGAIN;
        default:
                return -EPIPE;
        }
}

void engine_stream_end_input(struct engine_stream *stream) {
        if (!stream->address.cert_path)
                (void)shutdown(stream->fd, SHUT_WR);
}

static int wait_until(struct engine_stream *stream, short events, struct st_error **err) {
        struct pollfd ready = { .fd = stream->fd, .events = events };

        if (poll(&ready, 1, ENGINE_SHORT) > 0)
                return 0;
        return st_error_set(err, ETIMEDOUT, "the Docker engine at %s did not answer within %g s", stream->address.text,
                            ENGINE_SHORT / 1000.0);
}

static int send_all(struct engine_stream *stream, const char *text, struct st_error **err) {
        size_t size = strlen(text);

        while (size > 0) {
                ssize_t n = engine_stream_write(stream, text, size);
                int r = n == -EAGAIN ? wait_until(stream, POLLOUT, err) : 0;

                if (r < 0)
                        return r;
                if (n == -EPIPE)
                        return st_error_set(err, ECONNRESET, "the Docker engine at %s ended the connection",
                                            stream->address.text);
                if (n > 0) {
                        text += n;
                        size -= (size_t)n;
                }
        }
        return 0;
}

/** Reads the answer's head: what follows it are the container's bytes, or the reason of a refusal. */
static int read_answer(struct engine_stream *stream, struct st_error **err) {
        const char *end = NULL;
        long status = 0;
        int r;

        while (!end) {
                ssize_t n = stream->size < HEAD_MAX
                                    ? receive(stream, stream->head + stream->size, HEAD_MAX - stream->size)
                                    : 0;

                if (n == 0)
                        return st_error_set(err, ECONNRESET, "the Docker engine at %s gave no answer to attach",
                                            stream->address.text);
                r = n == -EAGAIN ? wait_until(stream, POLLIN, err) : 0;
                if (r < 0)
                        return r;
                if (n > 0)
                        stream->size += (size_t)n;
                stream->head[stream->size] = '\0';
                end = strstr(stream->head, "\r\n\r\n");
        }
        stream->at = (size_t)(end - stream->head) + 4;
        if (sscanf(stream->head, "HTTP/1.%*1[01] %3ld", &status) != 1)
                return st_error_set(err, EPROTO, "what listens at %s is no Docker engine", stream->address.text);
        if (status == 101 || status == 200)
                return 0;
        r = engine_reply_parse(status, stream->head + stream->at, stream->size - stream->at, NULL, err);
        return r < 0 ? st_error_wrap(err, "the Docker engine at %s", stream->address.text)
                     : st_error_set(err, EPROTO, "HTTP status %ld is none of attach", status);
}

static int connect_to(struct engine_stream *stream, struct st_error **err) {
        CURLcode code;

        stream->easy = curl_easy_init();
        if (!stream->easy)
                return st_error_errno(err, ENOMEM, "cannot use the Docker engine");
        engine_http_set_address(stream->easy, &stream->address);
        curl_easy_setopt(stream->easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(stream->easy, CURLOPT_URL, stream->address.url);
        curl_easy_setopt(stream->easy, CURLOPT_NOPROXY, "*");
        curl_easy_setopt(stream->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(stream->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)ENGINE_SHORT);
        curl_easy_setopt(stream->easy, CURLOPT_CONNECT_ONLY, 1L);
        code = curl_easy_perform(stream->easy);
        if (code == CURLE_OK)
                code = curl_easy_getinfo(stream->easy, CURLINFO_ACTIVESOCKET, &stream->fd);
        if (code == CURLE_OK && stream->fd != CURL_SOCKET_BAD)
                return 0;
        return st_error_set(err, ECONNREFUSED, "cannot reach the Docker engine at %s: %s", stream->address.text,
                            curl_easy_strerror(code));
}

int engine_stream_open(struct engine *engine, const char *container, bool input, struct engine_stream **ret,
                       struct st_error **err) {
        __attribute__((cleanup(stream_freep))) struct engine_stream *stream = calloc(1, sizeof(*stream));
        _cleanup_free_ char *path = engine_path("/containers/%s/attach", container), *request = NULL;
        struct engine_version version;
        int r;

        if (!stream || !path)
                return st_error_errno(err, ENOMEM, "cannot use the Docker engine");
        r = engine_check_reference("container", container, err);
        if (r >= 0)
                r = engine_version(engine, &version, err);
        if (r >= 0)
                r = engine_address_parse(engine_address(engine), &stream->address, err);
        if (r >= 0)
                r = connect_to(stream, err);
        if (r < 0)
                return r;
        if (asprintf(&request,
                     "POST /v%s%s?stream=1&stdout=1&stderr=1%s HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n"
                     "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
                     version.api, path, input ? "&stdin=1" : "") < 0) {
                request = NULL;
                return st_error_errno(err, ENOMEM, "cannot ask the Docker engine");
        }
        r = send_all(stream, request, err);
        if (r >= 0)
                r = read_answer(stream, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(stream);
        return 0;
}

size_t engine_frames_take(struct engine_frames *frames, const uint8_t *data, size_t size, int *ret_stream,
                          const uint8_t **ret_at, size_t *ret_n) {
        size_t done = 0;

        *ret_n = 0;
        while (frames->left == 0 && done < size) {
                frames->head[frames->have++] = data[done++];
                if (frames->have < sizeof(frames->head))
                        continue;
                frames->have = 0;
                frames->left = (uint32_t)frames->head[4] << 24 | (uint32_t)frames->head[5] << 16 |
                               (uint32_t)frames->head[6] << 8 | frames->head[7];
        }
        *ret_stream = frames->head[0] == 2 ? 2 : 1;
        *ret_at = data + done;
        *ret_n = size - done < frames->left ? size - done : frames->left;
        frames->left -= (uint32_t)*ret_n;
        return done + *ret_n;
}
