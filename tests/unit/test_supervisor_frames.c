/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/backlog.h"
#include "supervisor/frames.h"

static void frames_in_pieces(void **state) {
        (void)state;
        struct supervisor_reader reader = { 0 };
        struct supervisor_message message;
        struct supervisor_frame_head heads[] = { supervisor_head(SUPERVISOR_STDIN, 5),
                                                 supervisor_head(SUPERVISOR_END, 0) };
        int fds[2];

        assert_int_equal(io_socketpair(fds), 0);
        assert_int_equal(supervisor_reader_next(&reader, &message), 0);
        assert_int_equal(supervisor_reader_fill(&reader, fds[1]), -EAGAIN);
        for (size_t i = 0; i < sizeof(heads[0]); i++) {
                assert_int_equal(write(fds[0], (char *)&heads[0] + i, 1), 1);
                assert_int_equal(supervisor_reader_fill(&reader, fds[1]), 1);
                assert_int_equal(supervisor_reader_next(&reader, &message), 0);
        }
        assert_int_equal(write(fds[0], "hello", 5), 5);
        assert_int_equal(write(fds[0], &heads[1], sizeof(heads[1])), sizeof(heads[1]));
        assert_int_equal(supervisor_reader_fill(&reader, fds[1]), 5 + sizeof(heads[1]));
        assert_int_equal(supervisor_reader_next(&reader, &message), 1);
        assert_int_equal(message.kind, SUPERVISOR_STDIN);
        assert_int_equal(message.size, 5);
        assert_memory_equal(message.data, "hello", 5);
        char five[5], four[4];
        assert_true(supervisor_message_get(&message, five, sizeof(five)));
        assert_false(supervisor_message_get(&message, four, sizeof(four)));
        assert_int_equal(supervisor_reader_next(&reader, &message), 1);
        assert_int_equal(message.kind, SUPERVISOR_END);
        assert_int_equal(supervisor_reader_next(&reader, &message), 0);
        assert_null(reader.buffer); /* nothing is held between frames */
        close(fds[0]);
        assert_int_equal(supervisor_reader_fill(&reader, fds[1]), 0);
        supervisor_reader_clear(&reader);
        close(fds[1]);
}

static void wrong_heads(void **state) {
        (void)state;
        static const struct supervisor_frame_head wrong[] = {
                { .size = SUPERVISOR_FRAME_MAX + 1, .kind = SUPERVISOR_STDIN },
                { .size = UINT32_MAX, .kind = SUPERVISOR_STDIN },
                { .size = 1, .kind = SUPERVISOR_STDIN, .zero = { 0, 0, 1 } },
        };

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                struct supervisor_reader reader = { 0 };
                struct supervisor_message message;
                int fds[2];

                assert_int_equal(io_socketpair(fds), 0);
                assert_int_equal(write(fds[0], &wrong[i], sizeof(wrong[i])), sizeof(wrong[i]));
                assert_true(supervisor_reader_fill(&reader, fds[1]) > 0);
                assert_int_equal(supervisor_reader_next(&reader, &message), -EPROTO);
                supervisor_reader_clear(&reader);
                close(fds[0]);
                close(fds[1]);
        }
}

/* Frames of all sizes through a socket that takes little at once. */
static void writer_and_reader(void **state) {
        (void)state;
        struct supervisor_writer writer = { 0 };
        struct supervisor_reader reader = { 0 };
        struct supervisor_message message;
        static char data[SUPERVISOR_FRAME_MAX];
        static const size_t sizes[] = { 0, 1, 7, 4096, 65535, SUPERVISOR_FRAME_MAX, 0, 3, SUPERVISOR_FRAME_MAX };
        int fds[2], small = 1;
        size_t got = 0;

        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (char)(i * 31);
        assert_int_equal(io_socketpair(fds), 0);
        assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
                assert_int_equal(
                        supervisor_writer_send(&writer, fds[0], (enum supervisor_frame)(i + 1), data, sizes[i]), 0);
        assert_true(supervisor_writer_pending(&writer) > 0);
        while (got < ELEMENTSOF(sizes)) {
                assert_true(supervisor_writer_flush(&writer, fds[0]) >= 0);
                ssize_t n = supervisor_reader_fill(&reader, fds[1]);
                assert_true(n > 0 || n == -EAGAIN);
                while (supervisor_reader_next(&reader, &message) > 0) {
                        assert_int_equal(message.kind, got + 1);
                        assert_int_equal(message.size, sizes[got]);
                        assert_memory_equal(message.data, data, message.size);
                        got++;
                }
        }
        assert_int_equal(supervisor_writer_pending(&writer), 0);
        assert_null(writer.buffer);
        close(fds[1]);
        assert_int_equal(supervisor_writer_send(&writer, fds[0], SUPERVISOR_END, NULL, 0), -EPIPE);
        supervisor_writer_clear(&writer);
        supervisor_reader_clear(&reader);
        close(fds[0]);
}

/* The backlog as one text per stream. */
static void take_all(struct backlog *backlog, char **ret_out, char **ret_err, size_t *ret_size) {
        char *texts[2] = { xstrdup(""), xstrdup("") };
        enum supervisor_frame kind;
        const char *data;
        size_t size;

        *ret_size = 0;
        while (backlog_take(backlog, &kind, &data, &size)) {
                char **text = &texts[kind == SUPERVISOR_STDERR];
                char *longer = xasprintf("%s%.*s", *text, (int)size, data);

                free(*text);
                *text = longer;
                *ret_size += size;
        }
        *ret_out = texts[0];
        *ret_err = texts[1];
}

static void backlog_keeps_the_last(void **state) {
        (void)state;
        struct backlog backlog = { 0 };
        _cleanup_free_ char *block = xcalloc(1, 3 * SUPERVISOR_BACKLOG);
        size_t size;

        for (unsigned step = 1; step < 70000; step = step * 3 + 1) {
                _cleanup_free_ char *out = NULL, *err = NULL;

                for (unsigned i = 0, byte = 0; i < 200000 / step + 1; i++, byte++) {
                        memset(block, 'a' + (int)(byte % 26), step);
                        backlog_add(&backlog, SUPERVISOR_STDOUT, block, step);
                }
                take_all(&backlog, &out, &err, &size);
                assert_int_equal(size, step > SUPERVISOR_BACKLOG || 200000 / step * step >= SUPERVISOR_BACKLOG
                                               ? SUPERVISOR_BACKLOG
                                               : (200000 / step + 1) * step);
                assert_int_equal(out[size - 1], 'a' + (200000 / step) % 26);
                for (size_t i = 1; i < size; i++) /* each letter is followed by itself or the next */
                        assert_true(out[i] == out[i - 1] || out[i] == 'a' + (out[i - 1] - 'a' + 1) % 26);
                assert_null(backlog.ring);
        }
        /* One that is larger than all. */
        memset(block, 'x', 3 * SUPERVISOR_BACKLOG);
        backlog_add(&backlog, SUPERVISOR_STDERR, block, 3 * SUPERVISOR_BACKLOG);
        assert_int_equal(backlog.size, SUPERVISOR_BACKLOG);
        backlog_clear(&backlog);
}

static void backlog_of_two_streams(void **state) {
        (void)state;
        struct backlog backlog = { 0 };
        _cleanup_free_ char *out = NULL, *err = NULL;
        size_t size;

        for (int i = 0; i < 3 * BACKLOG_RUNS; i++) {
                _cleanup_free_ char *text = xasprintf("%d ", i);
                backlog_add(&backlog, i % 2 ? SUPERVISOR_STDERR : SUPERVISOR_STDOUT, text, strlen(text));
                backlog_add(&backlog, i % 2 ? SUPERVISOR_STDERR : SUPERVISOR_STDOUT, "", 0);
        }
        assert_int_equal(backlog.n_runs, BACKLOG_RUNS);
        take_all(&backlog, &out, &err, &size);
        assert_true(text_after(out, "1024 1026 ") != NULL);
        assert_true(text_after(err, "1025 1027 ") != NULL);
        assert_true(text_ends_with(out, " 1534 "));
        assert_true(text_ends_with(err, " 1535 "));
        assert_int_equal(size, strlen(out) + strlen(err));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(frames_in_pieces),       cmocka_unit_test(wrong_heads),
                cmocka_unit_test(writer_and_reader),      cmocka_unit_test(backlog_keeps_the_last),
                cmocka_unit_test(backlog_of_two_streams),
        };

        return cmocka_run_group_tests_name("supervisor_frames", tests, NULL, NULL);
}
