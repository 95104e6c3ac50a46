/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "criu/statistics.h"

/* Written by CRIU 4.2.1. */
static const uint8_t dump[] = { 0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57, 0x25, 0x00, 0x00, 0x00, 0x0a,
                                0x23, 0x08, 0x9e, 0x01, 0x10, 0xb2, 0xc6, 0x01, 0x18, 0xb6, 0x70, 0x20, 0xe7,
                                0x54, 0x28, 0xe2, 0x10, 0x30, 0x00, 0x38, 0xfb, 0x0f, 0x40, 0x00, 0x48, 0x00,
                                0x50, 0x08, 0x58, 0x08, 0x60, 0x00, 0x68, 0x00, 0x70, 0x00 };
static const uint8_t restore[] = { 0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57, 0x0f, 0x00, 0x00, 0x00, 0x12, 0x0d,
                                   0x08, 0x00, 0x10, 0x00, 0x18, 0x03, 0x20, 0x83, 0xa4, 0x04, 0x28, 0xfb, 0x0f };

static void real_files(void **state) {
        (void)state;
        char directory[] = "/tmp/stasis-test-XXXXXX";
        struct criu_statistics s;

        assert_non_null(mkdtemp(directory));
        _cleanup_free_ char *of_dump = path_join(directory, "stats-dump"),
                            *of_restore = path_join(directory, "stats-restore");

        assert_int_equal(criu_statistics_read(directory, CRIU_DUMP, &s), -ENOENT);
        assert_int_equal(io_replace_file(of_dump, dump, sizeof(dump), 0600, false), 0);
        assert_int_equal(io_replace_file(of_restore, restore, sizeof(restore), 0600, false), 0);

        assert_int_equal(criu_statistics_read(directory, CRIU_DUMP, &s), 0);
        assert_int_equal(s.freezing_us, 158);
        assert_int_equal(s.frozen_us, 25394);
        assert_int_equal(s.memory_dump_us, 14390);
        assert_int_equal(s.memory_write_us, 10855);
        assert_int_equal(s.pages_scanned, 2146);
        assert_int_equal(s.pages_written, 2043);
        assert_int_equal(s.restore_us, 0);

        assert_int_equal(criu_statistics_read(directory, CRIU_RESTORE, &s), 0);
        assert_int_equal(s.forking_us, 3);
        assert_int_equal(s.restore_us, 70147);
        assert_int_equal(s.pages_restored, 2043);
        assert_int_equal(s.frozen_us, 0);

        /* A file of any size is no reason to read it all. */
        assert_int_equal(truncate(of_dump, 1 << 20), 0);
        assert_int_equal(criu_statistics_read(directory, CRIU_DUMP, &s), -EBADMSG);
        io_remove_tree(directory);
}

static void damaged(void **state) {
        (void)state;
        struct criu_statistics s = { .frozen_us = 7 };
        uint8_t *copy;

        /* Each length that is too short, in a buffer that is just as long. */
        for (size_t n = 0; n < sizeof(dump); n++) {
                copy = malloc(n + !n);
                memcpy(copy, dump, n);
                assert_int_equal(criu_statistics_parse(copy, n, CRIU_DUMP, &s), -EBADMSG);
                free(copy);
        }
        /* The other operation's. */
        assert_int_equal(criu_statistics_parse(dump, sizeof(dump), CRIU_RESTORE, &s), -EBADMSG);
        assert_int_equal(criu_statistics_parse(restore, sizeof(restore), CRIU_DUMP, &s), -EBADMSG);
        /* Magic numbers, and a part that is longer than the whole. */
        static const size_t places[] = { 0, 3, 4, 7, 11, 13 };
        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                copy = malloc(sizeof(dump));
                memcpy(copy, dump, sizeof(dump));
                copy[places[i]] ^= 0x7f;
                assert_int_equal(criu_statistics_parse(copy, sizeof(dump), CRIU_DUMP, &s), -EBADMSG);
                free(copy);
        }
        assert_int_equal(s.frozen_us, 7); /* a failure changes nothing */
}

/* Fields that are not known are skipped, whatever their type; a number without an end is refused. */
static void strange(void **state) {
        (void)state;
        static const uint8_t unknown[] = { 0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57, 26, 0,    0, 0, 0x1a,
                                           1,    'x',  0x0a, 21,   0x08, 5,    0x99, 0x06, 1,  2,    3, 4, 5,
                                           6,    7,    8,    0x9d, 0x06, 1,    2,    3,    4,  0x10, 9 };
        static const uint8_t endless[] = {
                0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57, 14,   0,    0,    0,    0x0a,
                12,   0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01
        };
        struct criu_statistics s;

        uint8_t sized[sizeof(unknown)];
        memcpy(sized, unknown, sizeof(unknown));
        sized[8] = sizeof(unknown) - 12;
        sized[16] = sizeof(unknown) - 17;
        assert_int_equal(criu_statistics_parse(sized, sizeof(sized), CRIU_DUMP, &s), 0);
        assert_int_equal(s.freezing_us, 5);
        assert_int_equal(s.frozen_us, 9);
        assert_int_equal(criu_statistics_parse(endless, sizeof(endless), CRIU_DUMP, &s), -EBADMSG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(real_files),
                cmocka_unit_test(damaged),
                cmocka_unit_test(strange),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
