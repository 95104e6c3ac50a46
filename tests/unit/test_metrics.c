/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "daemon/metrics.h"
#include "daemon/metrics_server.h"

static char *page(const struct metrics *metrics) {
        const struct metrics_present present = { .jobs = { 1, 2, 3 }, .running = 4, .queued = 5, .resident = 6 };
        size_t size;
        char *text = metrics_text(metrics, &present, &size);

        assert_non_null(text);
        assert_int_equal(size, strlen(text));
        assert_true(size > 6 && streq(text + size - 6, "# EOF\n"));
        return text;
}

static void expect(const char *text, const char *line) {
        _cleanup_free_ char *whole = xasprintf("\n%s\n", line);

        if (!strstr(text, whole))
                fail_msg("no line '%s' in:\n%s", line, text);
}

static void counts(void **state) {
        struct metrics *metrics = metrics_new();

        (void)state;
        metrics_operation(metrics, "dump", "process", 0, 900);
        metrics_operation(metrics, "dump", "process", 0, 2000000);
        metrics_operation(metrics, "dump", "process", EIO, 400000000);
        metrics_operation(metrics, "dump", "docker", ECANCELED, 30000);
        metrics_operation(metrics, "reload", NULL, 0, 1);
        metrics_checkpoint(metrics, "process", 2500, 4096);
        metrics_checkpoint(metrics, "process", 2501, 4096);

        _cleanup_free_ char *text = page(metrics);
        expect(text, "stasis_operations_total{operation=\"dump\",type=\"process\",result=\"ok\"} 2");
        expect(text, "stasis_operations_total{operation=\"dump\",type=\"process\",result=\"error\"} 1");
        expect(text, "stasis_operations_total{operation=\"dump\",type=\"docker\",result=\"cancelled\"} 1");
        expect(text, "stasis_operations_total{operation=\"reload\",type=\"none\",result=\"ok\"} 1");
        expect(text, "stasis_operation_duration_seconds_bucket{operation=\"dump\",type=\"process\",le=\"0.001\"} 1");
        expect(text, "stasis_operation_duration_seconds_bucket{operation=\"dump\",type=\"process\",le=\"2.5\"} 2");
        expect(text, "stasis_operation_duration_seconds_bucket{operation=\"dump\",type=\"process\",le=\"300\"} 2");
        expect(text, "stasis_operation_duration_seconds_bucket{operation=\"dump\",type=\"process\",le=\"+Inf\"} 3");
        expect(text, "stasis_operation_duration_seconds_sum{operation=\"dump\",type=\"process\"} 402.000900");
        expect(text, "stasis_frozen_seconds_bucket{type=\"process\",le=\"0.0025\"} 1");
        expect(text, "stasis_frozen_seconds_bucket{type=\"process\",le=\"0.005\"} 2");
        expect(text, "stasis_checkpoint_bytes_total{type=\"process\"} 8192");
        expect(text, "stasis_jobs{state=\"running\"} 2");
        expect(text, "stasis_operations_running 4");
        expect(text, "stasis_operations_queued 5");
        metrics_free(metrics);
}

/* Types come from requests: they can neither break the page nor fill the memory. */
static void invented_types(void **state) {
        struct metrics *metrics = metrics_new();

        (void)state;
        metrics_operation(metrics, "dump", "a\"} 1\nevil", EINVAL, 1);
        for (int i = 0; i < 1000; i++) {
                _cleanup_free_ char *type = xasprintf("type-%d", i);
                metrics_operation(metrics, "dump", type, EINVAL, 1);
                metrics_checkpoint(metrics, type, 1, 1);
        }
        _cleanup_free_ char *text = page(metrics);
        assert_null(strstr(text, "evil"));
        expect(text, "stasis_operations_total{operation=\"dump\",type=\"other\",result=\"error\"} 1");
        expect(text, "stasis_operations_total{operation=\"other\",type=\"other\",result=\"error\"} 938");
        expect(text, "stasis_checkpoint_bytes_total{type=\"other\"} 937");
        metrics_free(metrics);
}

static char *make_page(size_t *ret_size, void *userdata) {
        *ret_size = 5;
        ++*(int *)userdata;
        return xstrdup("page\n");
}

static void pump(sd_event *loop, int fd, char *answer, size_t size) {
        size_t n = 0;

        while (n < size - 1) {
                ssize_t got = recv(fd, answer + n, size - 1 - n, MSG_DONTWAIT);

                if (got == 0)
                        break;
                if (got > 0)
                        n += (size_t)got;
                else
                        assert_true(sd_event_run(loop, 5000000) > 0);
        }
        answer[n] = '\0';
}

static void request(sd_event *loop, const char *path, const char *text, const char *status, const char *body) {
        _cleanup_close_ int fd = io_connect_unix(path);
        char answer[4096];

        assert_true(fd >= 0);
        assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
        pump(loop, fd, answer, sizeof(answer));
        assert_non_null(strstr(answer, status));
        assert_non_null(strstr(answer, body));
}

static void serves(void **state) {
        char directory[] = "/tmp/stasis-test-XXXXXX";
        _cleanup_free_ char *path = NULL;
        struct metrics_server *server = NULL;
        struct stat st;
        int asked = 0;
        sd_event *loop;

        (void)state;
        assert_non_null(mkdtemp(directory));
        path = path_join(directory, "metrics.sock");
        assert_true(sd_event_new(&loop) >= 0);
        assert_int_equal(metrics_server_new(loop, path, make_page, &asked, &server, NULL), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);

#define END "Host: x\r\nConnection: close\r\n\r\n"
        request(loop, path, "GET /metrics HTTP/1.1\r\n" END, " 200 ", "application/openmetrics-text");
        request(loop, path, "GET /metrics HTTP/1.1\r\n" END, " 200 ", "\r\n\r\npage\n");
        request(loop, path, "GET / HTTP/1.1\r\n" END, " 404 ", "only /metrics");
        request(loop, path, "DELETE /metrics HTTP/1.1\r\n" END, " 405 ", "Allow: GET, HEAD");
        request(loop, path, "POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n" END "abc", " 405 ", "only be read");
        request(loop, path, "\x01\x02 garbage\r\n\r\n", " 400 ", "");
        assert_int_equal(asked, 2);

        metrics_server_free(server);
        assert_int_equal(access(path, F_OK), -1);
        sd_event_unref(loop);
        assert_int_equal(rmdir(directory), 0);
}

static void only_this_machine(void **state) {
        static const char *const bad[] = { "0.0.0.0:0", "[::]:0", "127.0.0.1", "127.0.0.1:x", ":0" };
        struct metrics_server *server = NULL;
        int asked = 0;
        sd_event *loop;

        (void)state;
        assert_true(sd_event_new(&loop) >= 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_error_ struct st_error *err = NULL;
                assert_true(metrics_server_new(loop, bad[i], make_page, &asked, &server, &err) < 0);
                assert_non_null(err);
        }
        assert_int_equal(metrics_server_new(loop, "127.0.0.1:0", make_page, &asked, &server, NULL), 0);
        metrics_server_free(server);
        sd_event_unref(loop);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(counts),
                cmocka_unit_test(invented_types),
                cmocka_unit_test(serves),
                cmocka_unit_test(only_this_machine),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
