/* SPDX-License-Identifier: Apache-2.0 */

/* The record of files: written and read back; what is damaged, foreign or hostile is refused. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/file_record.h"

static void test_round_trip(void **unused) {
        (void)unused;
        struct file_record items[] = {
                {
                        .path = (char *)"/var/log/b\"\xc3\xa4",
                        .was = { .dev = UINT64_MAX,
                                 .inode = 1ull << 63,
                                 .birth = { .tv_sec = 5, .tv_nsec = 999999999 },
                                 .mtime = { .tv_sec = -3, .tv_nsec = 7 },
                                 .size = 1ull << 40,
                                 .mode = S_IFREG | 04640,
                                 .uid = 1000,
                                 .gid = 4294967294u,
                                 .links = 2 },
                        .append = true,
                        .at_end = true,
                        .position = 77,
                        .has_tail = true,
                        .tail = { .high = 1, .low = 2 },
                },
                {
                        .path = (char *)"/a/\xff\n",
                        .was = { .mode = S_IFREG | 0600, .links = 1, .size = 3 },
                        .mapped = true,
                        .content = (char *)"stasis.file-0",
                        .has_hash = true,
                        .hash = { .high = 3, .low = UINT64_MAX },
                },
        };
        struct file_records records = { .boot = (char *)"boot", .items = items, .n = ELEMENTSOF(items) };
        _cleanup_file_records_ struct file_records read = { 0 };
        _cleanup_free_ char *text = file_records_to_json(&records);

        assert_int_equal(file_records_from_json(text, strlen(text), &read, NULL), 0);
        assert_string_equal(read.boot, "boot");
        assert_int_equal(read.n, 2);
        /* Sorted by path. */
        const struct file_record *a = &read.items[0], *b = &read.items[1];
        assert_string_equal(a->path, items[1].path);
        assert_string_equal(a->content, "stasis.file-0");
        assert_true(a->has_hash && hash_equal(a->hash, items[1].hash) && a->mapped && !a->has_tail);
        assert_string_equal(b->path, items[0].path);
        assert_memory_equal(&b->was.dev, &items[0].was.dev, sizeof(b->was.dev));
        assert_true(b->was.inode == items[0].was.inode && b->was.size == items[0].was.size);
        assert_true(time_equal(b->was.birth, items[0].was.birth) && time_equal(b->was.mtime, items[0].was.mtime));
        assert_int_equal(b->was.mode, items[0].was.mode);
        assert_int_equal(b->was.uid, 1000);
        assert_true(b->was.gid == 4294967294u && b->was.links == 2);
        assert_true(b->append && b->at_end && !b->mapped && b->position == 77 && b->has_tail && !b->content);
        assert_false(file_record_has_content(b));
}

#define GOOD                                                                                                          \
        "\"dev\":1,\"inode\":2,\"size\":3,\"mtime\":[1,2],\"mode\":33188,\"uid\":0,\"gid\":0,\"links\":1,\"append\":" \
        "true,\"at_end\":true,\"mapped\":false,\"position\":0"

static int parse(const char *text, char **ret_error) {
        _cleanup_file_records_ struct file_records read = { 0 };
        _cleanup_error_ struct st_error *error = NULL;
        int r = file_records_from_json(text, strlen(text), &read, &error);

        assert_true((r < 0) == (error != NULL));
        if (ret_error)
                *ret_error = xstrdup(st_error_message(error));
        return r;
}

static int parse_file(const char *fields) {
        _cleanup_free_ char *text = xasprintf("{\"version\":1,\"boot\":\"b\",\"files\":[{%s}]}", fields);

        return parse(text, NULL);
}

static void test_refused(void **unused) {
        (void)unused;
        _cleanup_free_ char *error = NULL, *missing = NULL;

        assert_int_equal(parse_file("\"path\":\"/a\"," GOOD), 0);
        static const char *const bad[] = {
                GOOD,
                "\"path\":\"a\"," GOOD,
                "\"path\":\"/\"," GOOD,
                "\"path\":\"/a/../b\"," GOOD,
                "\"path\":\"/a//b\"," GOOD,
                "\"path\":\"/a/\"," GOOD,
                "\"path\":\"/a\\u0000b\"," GOOD,
                "\"path\":7," GOOD,
                "\"path\":\"/a\",\"path_hex\":\"2f61\"," GOOD,
                "\"path_hex\":\"2f6\"," GOOD,
                "\"path_hex\":\"2f00\"," GOOD,
                "\"path_hex\":\"2fzz\"," GOOD,
                "\"path\":\"/a\",\"content\":\"stasis.file-0\"," GOOD, /* without its hash */
                "\"path\":\"/a\",\"content\":\"../x\",\"hash\":\"00000000000000000000000000000000\"," GOOD,
                "\"path\":\"/a\",\"content\":\"stasis.file-99999\",\"hash\":\"00000000000000000000000000000000\"," GOOD,
                "\"path\":\"/a\",\"hash\":\"0\"," GOOD,
                "\"path\":\"/a\",\"tail\":\"0000000000000000000000000000000G\"," GOOD,
                "\"path\":\"/a\",\"birth\":[1]," GOOD,
                "\"path\":\"/a\",\"birth\":[1,1000000000]," GOOD,
        };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                if (parse_file(bad[i]) != -EBADMSG)
                        fail_msg("accepted: %s", bad[i]);

        /* Any number out of its bounds, and no regular file. */
        static const char *const fields[] = { "size", "mode", "uid", "gid", "links", "position" };
        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                _cleanup_free_ char *text = xstrdup("\"path\":\"/a\"," GOOD);
                _cleanup_free_ char *key = xasprintf("\"%s\":", fields[i]);
                char *at = strstr(text, key) + strlen(key);
                *at = '-';
                if (parse_file(text) == 0)
                        fail_msg("accepted: %s", text);
        }
        assert_int_equal(parse("{\"version\":2,\"boot\":\"b\",\"files\":[]}", &error), -EOPNOTSUPP);
        assert_non_null(strstr(error, "version 2"));
        assert_int_equal(parse("{\"version\":1,\"boot\":\"b\"}", NULL), -EBADMSG);
        assert_int_equal(parse("{\"version\":1,\"boot\":\"b\",\"files\":{}}", NULL), -EBADMSG);
        assert_int_equal(parse("", NULL), -EBADMSG);
        assert_int_equal(parse("{\"version\":1,\"boot\":\"b\",\"files\":[{\"path\":\"/a\"," GOOD
                               "},{\"path\":\"/a\"," GOOD "}]}",
                               &missing),
                         -EBADMSG);
        assert_non_null(strstr(missing, "twice"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
