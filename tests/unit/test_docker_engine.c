/* SPDX-License-Identifier: Apache-2.0 */

/* The client of the Docker Engine API against a server of the test's own, which answers well, badly, late or never. */

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"

#include "../../plugins/docker/engine.h"
#include "../../plugins/docker/engine_reply.h"
#include "../../plugins/docker/engine_stream.h"

#define OK(body) "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" body
#define FAILED(status, body) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n" body
#define VERSION \
        OK("{\"Version\":\"20.10.24+dfsg1\",\"ApiVersion\":\"1.41\",\"MinAPIVersion\":\"1.12\",\"Experimental\":true}")

/* An answer that never comes: the connection stays open until the test ends. */
static const char SILENCE[] = "silence";

/*
 * What the server says to each connection, in order; the last one again and again. It lives longer than the function
 * that a test calls start() in.
 */
struct server {
        const char *answers[16]; /* up to NULL */
        size_t repeat;           /* of the body "x", behind the last answer */
        int fd, stop;
        pthread_t thread;
        char directory[32], socket[48], address[64];
        char asked[8192]; /* by the last request, with its body */
};

static struct server server;

/* Is the request here with its body? */
static bool is_whole(const char *request) {
        const char *head_end = strstr(request, "\r\n\r\n");
        const char *length = strstr(request, "\r\nContent-Length: ");
        const char *chunked = strstr(request, "\r\nTransfer-Encoding: chunked");
        if (!head_end)
                return false;
        if (length && length < head_end)
                return strlen(head_end + 4) >= strtoul(strchr(length, ':') + 1, NULL, 10);
        return !chunked || chunked > head_end || strstr(head_end, "\r\n0\r\n\r\n");
}

static void read_request(int fd) {
        size_t n = 0;
        for (;;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                if (poll(&p, 1, 5000) <= 0)
                        break;
                ssize_t got = read(fd, server.asked + n, sizeof(server.asked) - 1 - n);
                if (got <= 0)
                        break;
                n += (size_t)got;
                server.asked[n] = 0;
                if (is_whole(server.asked))
                        break;
        }
}

static void say(int fd, const char *text, size_t size) {
        while (size > 0) {
                ssize_t n = send(fd, text, size, MSG_NOSIGNAL);
                if (n <= 0)
                        return;
                text += n;
                size -= (size_t)n;
        }
}

static void *serve(void *unused) {
        (void)unused;
        static const char filler[65536] = { [0 ... 65535] = 'x' };
        const char **answer = server.answers;
        for (;;) {
                struct pollfd fds[] = { { .fd = server.stop, .events = POLLIN },
                                        { .fd = server.fd, .events = POLLIN } };
                poll(fds, 2, -1);
                if (fds[0].revents)
                        return NULL;
                int fd = accept4(server.fd, NULL, NULL, SOCK_CLOEXEC);
                if (fd < 0)
                        return NULL;
                read_request(fd);
                if (*answer == SILENCE)
                        poll(fds, 1, -1);
                else
                        say(fd, *answer, strlen(*answer));
                if (!answer[1])
                        for (size_t left = server.repeat; left > 0;
                             left -= left < sizeof(filler) ? left : sizeof(filler))
                                say(fd, filler, left < sizeof(filler) ? left : sizeof(filler));
                if (answer[1])
                        answer++;
                close(fd);
        }
}

static void start(const char *const *answers) {
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        for (size_t i = 0; answers[i]; i++) {
                assert_true(i + 1 < ELEMENTSOF(server.answers));
                server.answers[i] = answers[i];
        }
        memcpy(name.sun_path, server.socket, strlen(server.socket));
        server.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        server.stop = eventfd(0, EFD_CLOEXEC);
        assert_int_equal(bind(server.fd, (struct sockaddr *)&name, sizeof(name)), 0);
        assert_int_equal(listen(server.fd, 5), 0);
        assert_int_equal(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

static int prepare(void **state) {
        (void)state;
        server = (struct server){ .fd = -EBADF, .stop = -EBADF };
        snprintf(server.directory, sizeof(server.directory), "/tmp/stasis-eng.XXXXXX");
        if (!mkdtemp(server.directory))
                return -1;
        snprintf(server.socket, sizeof(server.socket), "%s/s", server.directory);
        snprintf(server.address, sizeof(server.address), "unix://%s", server.socket);
        unsetenv("DOCKER_HOST");
        unsetenv("DOCKER_API_VERSION");
        unsetenv("DOCKER_TLS_VERIFY");
        unsetenv("DOCKER_CERT_PATH");
        return 0;
}

static int finish(void **state) {
        (void)state;
        if (server.stop >= 0) {
                eventfd_write(server.stop, 1);
                pthread_join(server.thread, NULL);
                close(server.stop);
                close(server.fd);
        }
        unlink(server.socket);
        return rmdir(server.directory);
}

static struct engine *client(int cancel_fd) {
        struct engine *engine = NULL;
        assert_int_equal(engine_open(server.address, cancel_fd, &engine, NULL), 0);
        return engine;
}

/* The error must have this number, and all these words. */
static void failed(int r, int expected, struct st_error *error, const char *a, const char *b) {
        const char *text = st_error_message(error);
        if (r != -expected || !strstr(text, a) || !strstr(text, b))
                fail_msg("%d \"%s\", but %d, \"%s\" and \"%s\" were expected", r, text, -expected, a, b);
        st_error_free(error);
}

static double now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void test_version(void **state) {
        (void)state;
        struct engine_version version;
        start((const char *const[]){ VERSION, OK("{}"), NULL });
        _cleanup_engine_ struct engine *engine = client(-1);
        assert_int_equal(engine_version(engine, &version, NULL), 0);
        assert_string_equal(version.version, "20.10.24+dfsg1");
        assert_string_equal(version.api, "1.41");
        assert_int_equal(version.major, 20);
        assert_int_equal(version.minor, 10);
        assert_true(version.experimental);
        assert_non_null(strstr(server.asked, "GET /version HTTP/1.1"));
        assert_string_equal(engine_address(engine), server.address);
}

static void test_calls(void **state) {
        (void)state;
        _cleanup_json_ json_t *reply = NULL, *list = NULL;
        start((const char *const[]){ VERSION, OK("{\"Id\":\"abc\"}"),
                                     "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", OK("null"),
                                     "HTTP/1.1 304 Not Modified\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n\r\n",
                                     OK("{\"StatusCode\":137}"), OK("[]"), NULL });
        _cleanup_engine_ struct engine *engine = client(-1);
        int code;
        assert_int_equal(engine_container_inspect(engine, "web_1", &reply, NULL), 0);
        assert_non_null(strstr(server.asked, "GET /v1.41/containers/web_1/json HTTP/1.1"));
        assert_string_equal(json_string_value(json_object_get(reply, "Id")), "abc");
        assert_int_equal(engine_checkpoint_create(engine, "web_1", "c1", "/a b&c", false, NULL), 0);
        assert_non_null(strstr(server.asked, "POST /v1.41/containers/web_1/checkpoints HTTP/1.1"));
        assert_non_null(strstr(server.asked, "Content-Type: application/json"));
        assert_non_null(strstr(server.asked, "{\"CheckpointID\":\"c1\",\"Exit\":false,\"CheckpointDir\":\"/a b&c\"}"));
        assert_int_equal(engine_checkpoint_list(engine, "web_1", "/a b&c", &list, NULL), 0);
        assert_non_null(strstr(server.asked, "/checkpoints?dir=%2Fa%20b%26c HTTP"));
        assert_int_equal(json_array_size(list), 0);
        assert_int_equal(engine_container_start(engine, "web_1", NULL, NULL), 0);
        assert_int_equal(engine_container_start(engine, "web_1", "c1", NULL), -EBUSY);
        assert_non_null(strstr(server.asked, "/start?checkpoint=c1 HTTP"));
        assert_int_equal(engine_container_wait(engine, "web_1", 1000, &code, NULL), 0);
        assert_int_equal(code, 137);
        /* Another kind of answer than the API says. */
        json_t *none;
        assert_int_equal(engine_image_inspect(engine, "host:5000/a/b:1", &none, NULL), -EPROTO);
        assert_non_null(strstr(server.asked, "/images/host%3A5000%2Fa%2Fb%3A1/json HTTP"));
}

static void test_references(void **state) {
        (void)state;
        static const char *const bad[] = { "", ".", "..", "../x", "/x", "a/b", "a b", "a?b", "a\n", "-x", "\xff" };
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                assert_int_equal(engine_check_reference("container", bad[i], NULL), -EINVAL);
        assert_int_equal(engine_check_reference("container", NULL, NULL), -EINVAL);
        assert_int_equal(engine_check_reference("container", "a_B-9.x", NULL), 0);
        assert_int_equal(engine_check_reference("image", "sha256:00ff", NULL), 0);
        _cleanup_free_ char *path = engine_path("/x/%s?y=%s", "../a", "%\n\xff");
        assert_string_equal(path, "/x/%2E.%2Fa?y=%25%0A%FF");
}

static void test_errors(void **state) {
        (void)state;
        struct st_error *error = NULL;
        json_t *reply;
        start((const char *const[]){ VERSION, FAILED("404 Not Found", "{\"message\":\"No such container: x\\n\"}"),
                                     FAILED("500 Oops", "<html>Bad Gateway</html>"),
                                     FAILED("500 Oops", "{\"message\":\"write /t/c1/p.img: no space left on device\"}"),
                                     FAILED("409 Conflict", "{\"message\":\"in use\"}"), NULL });
        _cleanup_engine_ struct engine *engine = client(-1);
        int r = engine_container_inspect(engine, "x", &reply, &error);
        failed(r, ENOENT, error, server.address, ": No such container: x");
        error = NULL;
        r = engine_container_inspect(engine, "x", &reply, &error);
        failed(r, EIO, error, server.address, "HTTP status 500 without a reason");
        error = NULL;
        r = engine_container_pause(engine, "x", &error);
        failed(r, ENOSPC, error, "write /t/c1/p.img: no space left", "free space in the file system of /t/c1/;");
        error = NULL;
        r = engine_container_pause(engine, "x", &error);
        failed(r, EBUSY, error, server.address, "in use");
}

static void bad_answer(const char *answer, size_t repeat, int expected, const char *text) {
        struct st_error *error = NULL;
        json_t *reply;
        server.repeat = repeat;
        start((const char *const[]){ VERSION, answer, NULL });
        _cleanup_engine_ struct engine *engine = client(-1);
        int r = engine_container_inspect(engine, "x", &reply, &error);
        failed(r, expected, error, server.address, text);
}

static void test_no_json(void **state) {
        (void)state;
        bad_answer(OK("{\"Id\": tru"), 0, EPROTO, "is not JSON");
}

static void test_no_http(void **state) {
        (void)state;
        bad_answer("220 mail.example ESMTP\r\n", 0, EPROTO, "is no Docker engine");
}

static void test_cut_off(void **state) {
        (void)state;
        bad_answer("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"Id\":", 0, ECONNRESET, "ended the connection");
}

static void test_nothing(void **state) {
        (void)state;
        bad_answer("", 0, ECONNRESET, "ended the connection");
}

static void test_huge(void **state) {
        (void)state;
        bad_answer(OK("\""), ENGINE_REPLY_MAX + 1, EPROTO, "more than 32 MiB");
}

static void test_redirect(void **state) {
        (void)state;
        bad_answer("HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 0, EPROTO,
                   "another kind");
}

static void test_hangs(void **state) {
        (void)state;
        struct st_error *error = NULL;
        struct engine_version version;
        start((const char *const[]){ SILENCE, NULL });
        _cleanup_engine_ struct engine *engine = client(-1);
        double before = now();
        int r = engine_version(engine, &version, &error);
        assert_true(now() - before >= 1.9);
        failed(r, ETIMEDOUT, error, "did not answer GET /version within 2 s", "hint: dockerd hangs");
}

static void *cancel_soon(void *fd) {
        usleep(100000);
        eventfd_write(*(int *)fd, 1);
        return NULL;
}

static void test_cancelled(void **state) {
        (void)state;
        _cleanup_close_ int cancel = eventfd(0, EFD_CLOEXEC);
        pthread_t thread;
        int code;
        start((const char *const[]){ VERSION, SILENCE, NULL });
        _cleanup_engine_ struct engine *engine = client(cancel);
        pthread_create(&thread, NULL, cancel_soon, &cancel);
        assert_int_equal(engine_container_wait(engine, "x", ENGINE_NO_LIMIT, &code, NULL), -ECANCELED);
        pthread_join(thread, NULL);
        assert_int_equal(engine_container_pause(engine, "x", NULL), -ECANCELED);
}

static void test_archive(void **state) {
        (void)state;
        struct st_error *error = NULL;
        char text[64] = "";
        _cleanup_close_ int fd = memfd_create("archive", MFD_CLOEXEC);
        _cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        start((const char *const[]){ VERSION, OK("of some bytes"), OK("{}"),
                                     FAILED("404 No", "{\"message\":\"no /x\"}"), OK("of some bytes"), NULL });
        _cleanup_engine_ struct engine *engine = client(-1);
        assert_int_equal(engine_archive_get(engine, "x", "/a", fd, NULL), 0);
        assert_int_equal(pread(fd, text, sizeof(text), 0), 13);
        assert_string_equal(text, "of some bytes");
        lseek(fd, 0, SEEK_SET);
        assert_int_equal(engine_archive_put(engine, "x", "/a", fd, NULL), 0);
        assert_non_null(strstr(server.asked, "PUT /v1.41/containers/x/archive?path=%2Fa HTTP/1.1"));
        assert_non_null(strstr(server.asked, "application/x-tar"));
        assert_non_null(strstr(server.asked, "of some bytes"));
        int r = engine_archive_get(engine, "x", "/x", fd, &error);
        failed(r, ENOENT, error, "no /x", "");
        assert_int_equal(lseek(fd, 0, SEEK_END), 13); /* the error is no archive */
        error = NULL;
        r = engine_archive_get(engine, "x", "/a", full, &error);
        failed(r, ENOSPC, error, "cannot write the archive", "No space left");
}

static void test_nobody(void **state) {
        (void)state;
        struct st_error *error = NULL;
        struct engine_version version;
        _cleanup_engine_ struct engine *engine = client(-1);
        int r = engine_version(engine, &version, &error);
        failed(r, ENOENT, error, server.address, "no such socket (hint: start dockerd");

        struct sockaddr_un name = { .sun_family = AF_UNIX };
        memcpy(name.sun_path, server.socket, strlen(server.socket));
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
        error = NULL;
        r = engine_version(engine, &version, &error);
        failed(r, ECONNREFUSED, error, "does not run at", "nobody listens");
}

static void test_addresses(void **state) {
        (void)state;
        static const struct {
                const char *host;
                int expected;
                const char *text;
        } rows[] = {
                { "ssh://me@there", EOPNOTSUPP, "ssh is not supported" },
                { "npipe:////./pipe/docker", EINVAL, "is not the address" },
                { "unix://relative", EINVAL, "unix:///PATH" },
                { "tcp://", EINVAL, "tcp://HOST:PORT" },
                { "tcp://host/path", EINVAL, "tcp://HOST:PORT" },
                { "tcp://user@host", EINVAL, "tcp://HOST:PORT" },
        };
        struct engine *engine = NULL;
        struct st_error *error;
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                error = NULL;
                setenv("DOCKER_HOST", rows[i].host, 1);
                int r = engine_open(NULL, -1, &engine, &error);
                failed(r, rows[i].expected, error, rows[i].host, rows[i].text);
        }
        unsetenv("DOCKER_HOST");
        assert_int_equal(engine_open(NULL, -1, &engine, NULL), 0);
        assert_string_equal(engine_address(engine), ENGINE_DEFAULT_HOST);
        engine_close(engine);
        assert_int_equal(engine_open("tcp://[::1]:2375", -1, &engine, NULL), 0);
        engine_close(engine);
        setenv("DOCKER_TLS_VERIFY", "1", 1);
        setenv("DOCKER_CERT_PATH", server.directory, 1);
        error = NULL;
        int r = engine_open("tcp://host", -1, &engine, &error);
        failed(r, ENOENT, error, "/ca.pem", "DOCKER_CERT_PATH");
}

static void test_negotiation(void **state) {
        (void)state;
        char api[16];
        assert_int_equal(engine_reply_negotiate("1.12", "1.41", api, NULL), 0);
        assert_string_equal(api, "1.41");
        assert_int_equal(engine_reply_negotiate("1.24", "1.99", api, NULL), 0);
        assert_string_equal(api, "1.51");
        assert_int_equal(engine_reply_negotiate("1.60", "1.99", api, NULL), 0);
        assert_string_equal(api, "1.60");
        assert_int_equal(engine_reply_negotiate("", "1.40", api, NULL), 0);
        assert_int_equal(engine_reply_negotiate("1.12", "1.20", api, NULL), -EOPNOTSUPP);
        assert_int_equal(engine_reply_negotiate("1.12", NULL, api, NULL), -EPROTO);
        assert_int_equal(engine_reply_negotiate("1.12", "1.41/../x", api, NULL), -EPROTO);
        assert_int_equal(engine_reply_negotiate("x", "1.41", api, NULL), -EPROTO);
}

static void test_wanted_version(void **state) {
        (void)state;
        struct engine_version version;
        struct st_error *error = NULL;
        start((const char *const[]){ VERSION, NULL });
        _cleanup_engine_ struct engine *engine = client(-1);
        setenv("DOCKER_API_VERSION", "1.41/x", 1);
        int r = engine_version(engine, &version, &error);
        failed(r, EINVAL, error, "DOCKER_API_VERSION=1.41/x", "");
        setenv("DOCKER_API_VERSION", "1.30", 1);
        assert_int_equal(engine_version(engine, &version, NULL), 0);
        assert_string_equal(version.api, "1.30");
}

/* All that comes until the end, or until `size` is full. */
static size_t read_stream(struct engine_stream *stream, char *data, size_t size) {
        size_t n = 0;

        for (int i = 0; n < size && i < 100; i++) {
                struct pollfd ready = { .fd = engine_stream_fd(stream), .events = POLLIN };
                ssize_t got = engine_stream_read(stream, data + n, size - n);

                if (got == 0)
                        break;
                if (got > 0)
                        n += (size_t)got;
                else
                        (void)poll(&ready, 1, 100);
        }
        return n;
}

static void test_attach(void **state) {
        (void)state;
        struct engine_stream *stream = NULL;
        struct st_error *error = NULL;
        char data[64] = "";
        start((const char *const[]){ VERSION, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\nfirst bytes",
                                     FAILED("404 Not Found", "{\"message\":\"No such container: x\"}"),
                                     "SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "HTTP/1.1 101", NULL });
        _cleanup_engine_ struct engine *engine = client(-1);
        assert_int_equal(engine_stream_open(engine, "web", true, &stream, NULL), 0);
        assert_int_equal(read_stream(stream, data, sizeof(data) - 1), strlen("first bytes"));
        assert_string_equal(data, "first bytes");
        engine_stream_close(stream);
        assert_non_null(strstr(server.asked, "/containers/web/attach?stream=1&stdout=1&stderr=1&stdin=1 "));

        int r = engine_stream_open(engine, "web", false, &stream, &error);
        failed(r, ENOENT, error, "No such container: x", "");
        assert_null(strstr(server.asked, "stdin=1"));
        assert_int_equal(engine_stream_open(engine, "web", false, &stream, NULL), -EPROTO);
        assert_int_equal(engine_stream_open(engine, "web", false, &stream, NULL), -ECONNRESET);
        assert_int_equal(engine_stream_open(engine, "../x", false, &stream, NULL), -EINVAL);
}

/* The same whatever pieces it comes in. */
static void test_frames(void **state) {
        (void)state;
        static const uint8_t bytes[] = "\1\0\0\0\0\0\0\3out\2\0\0\0\0\0\0\4oops\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\1!";

        for (size_t piece = 1; piece <= sizeof(bytes) - 1; piece++) {
                struct engine_frames frames = { 0 };
                char out[2][16] = { "", "" };
                size_t had[2] = { 0 };

                for (size_t at = 0; at < sizeof(bytes) - 1;) {
                        size_t left = sizeof(bytes) - 1 - at, n;
                        const uint8_t *data;
                        int stream;
                        size_t done = engine_frames_take(&frames, bytes + at, left < piece ? left : piece, &stream,
                                                         &data, &n);

                        assert_true(done > 0 && done <= piece);
                        memcpy(out[stream - 1] + had[stream - 1], data, n);
                        had[stream - 1] += n;
                        at += done;
                }
                assert_string_equal(out[0], "out!");
                assert_string_equal(out[1], "oops");
        }
}

#define test(name) cmocka_unit_test_setup_teardown(name, prepare, finish)

int main(void) {
        const struct CMUnitTest tests[] = {
                test(test_version),        test(test_calls),    test(test_references), test(test_errors),
                test(test_no_json),        test(test_no_http),  test(test_cut_off),    test(test_nothing),
                test(test_huge),           test(test_redirect), test(test_hangs),      test(test_cancelled),
                test(test_archive),        test(test_nobody),   test(test_addresses),  test(test_negotiation),
                test(test_wanted_version), test(test_attach),   test(test_frames),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
