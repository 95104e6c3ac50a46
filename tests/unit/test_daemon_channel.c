/* SPDX-License-Identifier: Apache-2.0 */

/* Frames between worker and daemon: in any pieces, and nothing that is no frame. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/messages.h"
#include "daemon/channel.h"

static uint8_t *progress_frame(uint64_t done, size_t *size) {
        Stasis__V1__Progress progress = STASIS__V1__PROGRESS__INIT;
        Stasis__Worker__Report report = STASIS__WORKER__REPORT__INIT;

        progress.has_done = 1;
        progress.done = done;
        report.kind_case = STASIS__WORKER__REPORT__KIND_PROGRESS;
        report.progress = &progress;
        return channel_pack(&report, size);
}

static void test_pieces(void **unused) {
        (void)unused;
        struct channel_buffer buffer = { 0 };
        int pair[2];
        uint64_t expected = 0;

        assert_int_equal(io_socketpair(pair), 0);
        assert_int_equal(io_set_nonblocking(pair[0], true), 0);
        for (uint64_t i = 0; i < 3; i++) {
                size_t size;
                _cleanup_free_ uint8_t *frame = progress_frame(i, &size);

                for (size_t at = 0; at < size; at++) {
                        Stasis__Worker__Report *report = NULL;

                        assert_int_equal(io_write_full(pair[1], frame + at, 1), 0);
                        assert_int_equal(channel_receive(&buffer, pair[0]), 1);
                        int r = channel_next(&buffer, &report);
                        assert_int_equal(r, at + 1 == size);
                        if (r == 1) {
                                assert_int_equal(report->progress->done, expected++);
                                message_freep(&report);
                        }
                }
        }
        assert_int_equal(expected, 3);
        assert_int_equal(channel_receive(&buffer, pair[0]), -EAGAIN);
        close(pair[1]);
        assert_int_equal(channel_receive(&buffer, pair[0]), 0);
        close(pair[0]);
        channel_buffer_clear(&buffer);
}

static void test_garbage(void **unused) {
        (void)unused;
        static const struct {
                uint32_t length;
                const char *bytes;
        } cases[] = { { CHANNEL_FRAME_MAX + 1, "" }, { UINT32_MAX, "" }, { 4, "\xff\xff\xff\xff" } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct channel_buffer buffer = { 0 };
                Stasis__Worker__Report *report = NULL;
                int pair[2];

                assert_int_equal(io_socketpair(pair), 0);
                assert_int_equal(io_write_full(pair[1], &cases[i].length, sizeof(uint32_t)), 0);
                assert_int_equal(io_write_full(pair[1], cases[i].bytes, strlen(cases[i].bytes)), 0);
                assert_true(channel_receive(&buffer, pair[0]) > 0);
                assert_int_equal(channel_next(&buffer, &report), -EBADMSG);
                assert_null(report);
                close(pair[0]);
                close(pair[1]);
                channel_buffer_clear(&buffer);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_pieces),
                cmocka_unit_test(test_garbage),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
