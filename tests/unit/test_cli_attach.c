/* SPDX-License-Identifier: Apache-2.0 */

/* What an attach is made of: the keys that end it, an output that takes its time; and names of signals. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/detach_keys.h"
#include "cli/job_kill.h"
#include "cli/sink.h"

static struct detach_keys keys_of(const char *text) {
        struct detach_keys keys = { 0 };

        assert_int_equal(detach_keys_parse(text, &keys, NULL), 0);
        return keys;
}

static void assert_keys(const char *text, const char *expected) {
        struct detach_keys keys = keys_of(text);

        assert_int_equal(keys.n, strlen(expected));
        assert_memory_equal(keys.keys, expected, keys.n);
}

static void keys_are_read(void **state) {
        static const char *const bad[] = { "ctrl",
                                           "ctrl-",
                                           "ctrl-1",
                                           "ctrl-ab",
                                           "ab",
                                           "a,",
                                           ",a,",
                                           "a, b",
                                           " ",
                                           "ä",
                                           "ctrl-p,ctrl-q,",
                                           "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q" };

        (void)state;
        assert_keys("ctrl-p,ctrl-q", "\x10\x11");
        assert_keys("CTRL-P", "\x10");
        assert_keys("ctrl-a,d", "\x01"
                                "d");
        assert_keys("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", "\x1b\x1c\x1d\x1e\x1f");
        assert_keys("", "");
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                struct detach_keys keys = { .n = 7 };
                _cleanup_error_ struct st_error *err = NULL;

                assert_int_equal(detach_keys_parse(bad[i], &keys, &err), -EINVAL);
                assert_non_null(strstr(st_error_message(err), "--detach-keys"));
                assert_int_equal(keys.n, 7);
        }
}

/* Feeds in pieces of n bytes. @return what passed; malloc'ed */
static char *feed(struct detach_keys *keys, const char *in, size_t n, bool *detached) {
        char *result = xcalloc(strlen(in) + DETACH_KEYS_MAX + 1, 1);
        size_t size = 0;

        *detached = false;
        for (size_t at = 0; in[at] && !*detached;) {
                size_t piece = strnlen(in + at, n);
                uint8_t out[256 + DETACH_KEYS_MAX];
                size_t got = detach_keys_feed(keys, (const uint8_t *)in + at, piece, out, detached);

                memcpy(result + size, out, got);
                size += got;
                at += piece;
        }
        return result;
}

static void only_the_whole_sequence_is_swallowed(void **state) {
        static const struct {
                const char *keys, *in, *out, *held;
                bool detached;
        } cases[] = {
                { "ctrl-p,ctrl-q", "hello\n\x10\x11rest", "hello\n", "", true },
                { "ctrl-p,ctrl-q", "\x10x\x11", "\x10x\x11", "", false },
                { "ctrl-p,ctrl-q", "\x10\x10\x11", "\x10", "", true },
                { "ctrl-p,ctrl-q", "a\x10", "a", "\x10", false },
                { "a,a,b", "aaab", "a", "", true },
                { "a,b,a,c", "ababac", "ab", "", true },
                { "a,b,a,c", "abax", "abax", "", false },
                { "a,b,a,c", "xaba", "x", "aba", false },
                { "x", "abxc", "ab", "", true },
                { "", "\x10\x11", "\x10\x11", "", false },
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                for (size_t n = 1; n <= 16; n++) {
                        struct detach_keys keys = keys_of(cases[i].keys);
                        uint8_t held[DETACH_KEYS_MAX + 1] = { 0 };
                        bool detached;
                        _cleanup_free_ char *out = feed(&keys, cases[i].in, n, &detached);

                        assert_string_equal(out, cases[i].out);
                        assert_int_equal(detached, cases[i].detached);
                        size_t size = detach_keys_flush(&keys, held);
                        assert_int_equal(size, strlen(cases[i].held));
                        assert_string_equal((char *)held, cases[i].held);
                        assert_int_equal(detach_keys_flush(&keys, held), 0);
                }
}

static void a_nul_can_be_a_key(void **state) {
        struct detach_keys keys = keys_of("ctrl-@");
        uint8_t out[2 + DETACH_KEYS_MAX];
        bool detached = false;

        (void)state;
        assert_int_equal(keys.n, 1);
        assert_int_equal(detach_keys_feed(&keys, (const uint8_t *)"a\0", 2, out, &detached), 1);
        assert_true(detached);
}

static void signals_have_names(void **state) {
        static const char *const bad[] = {
                "", "0", "65", "-1", "TERMX", "SIG", "RTMIN-1", "RTMIN+99", "RTMAX+1", "15x"
        };

        (void)state;
        assert_int_equal(job_kill_signal("TERM"), SIGTERM);
        assert_int_equal(job_kill_signal("sigterm"), SIGTERM);
        assert_int_equal(job_kill_signal("SIGUSR1"), SIGUSR1);
        assert_int_equal(job_kill_signal("9"), SIGKILL);
        assert_int_equal(job_kill_signal("RTMIN"), SIGRTMIN);
        assert_int_equal(job_kill_signal("SIGRTMIN+3"), SIGRTMIN + 3);
        assert_int_equal(job_kill_signal("rtmax-1"), SIGRTMAX - 1);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(job_kill_signal(bad[i]), -EINVAL);
}

/* Reads all that is there. */
static size_t take(int fd, char *to, size_t room) {
        ssize_t n = recv(fd, to, room, MSG_DONTWAIT);

        if (n < 0 && errno == ENOTSOCK)
                n = read(fd, to, room);
        return n > 0 ? (size_t)n : 0;
}

static void passes_everything(int reader, int writer) {
        _cleanup_(sink_close) struct sink sink = { 0 };
        static char data[1 << 20], got[1 << 20];
        size_t n = 0;

        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (char)(i * 7 + i / 251);
        sink_open(&sink, writer);
        assert_int_equal(sink_wants(&sink), -1);
        assert_int_equal(sink_put(&sink, data, sizeof(data) / 2), 0); /* more than it takes: does not wait */
        assert_true(sink_wants(&sink) >= 0);
        assert_int_equal(sink_put(&sink, data + sizeof(data) / 2, sizeof(data) / 2), 0);
        assert_false(fcntl(writer, F_GETFL) & O_NONBLOCK); /* others have it too */
        while (n < sizeof(data)) {
                n += take(reader, got + n, sizeof(got) - n);
                assert_int_equal(sink_push(&sink), 0);
        }
        assert_memory_equal(got, data, sizeof(data));
        assert_int_equal(sink_wants(&sink), -1);
        close(reader);
        assert_int_equal(sink_put(&sink, data, 1), -EPIPE);
        assert_int_equal(sink_put(&sink, data, 1), -EPIPE);
        assert_int_equal(sink_wants(&sink), -1);
        close(writer);
}

static void an_output_that_waits_loses_nothing(void **state) {
        int fds[2];

        (void)state;
        signal(SIGPIPE, SIG_IGN);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        passes_everything(fds[0], fds[1]);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        passes_everything(fds[0], fds[1]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(keys_are_read),
                cmocka_unit_test(only_the_whole_sequence_is_swallowed),
                cmocka_unit_test(a_nul_can_be_a_key),
                cmocka_unit_test(signals_have_names),
                cmocka_unit_test(an_output_that_waits_loses_nothing),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
