/* SPDX-License-Identifier: Apache-2.0 */

/* docker.json: written and read back; what is damaged, foreign or hostile is refused. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

#include "../../plugins/docker/docker_saved.h"

#define ID "99cef354c49ea2587846808bd38a2771b1ad2cda15589a284eb4ab62112e58bb"

static const char good[] =
        "{\"version\": 1, \"time\": 1700000000, \"storage_driver\": \"overlay2\", \"rootfs\": \"diff\","
        " \"engine\": {\"Version\": \"20.10.24\"}, \"image\": {\"Id\": \"sha256:1\"}, \"networks\": {\"net1\": {}},"
        " \"inspect\": {\"Id\": \"" ID "\", \"Name\": \"/web\", \"Config\": {\"Image\": \"bb:1\"}, \"HostConfig\": {}},"
        " \"volumes\": [{\"Type\": \"volume\", \"Name\": \"v\", \"Destination\": \"/v\"}]}";

static void test_round_trip(void **unused) {
        _cleanup_saved_ struct docker_saved saved = { 0 }, again = { 0 };
        _cleanup_free_ char *text = NULL;

        (void)unused;
        assert_int_equal(docker_saved_parse(good, strlen(good), &saved, NULL), 0);
        assert_string_equal(docker_saved_id(&saved), ID);
        assert_string_equal(docker_saved_name(&saved), "web");
        assert_string_equal(docker_saved_text(saved.inspect, "Config", "Image", NULL), "bb:1");
        assert_null(docker_saved_text(saved.inspect, "Config", "Nothing", "Below", NULL));
        assert_null(docker_saved_text(saved.inspect, "Config", NULL));
        assert_null(saved.rootfs_reason);
        assert_int_equal(saved.time, 1700000000);

        saved.rootfs_reason = strdup("the storage driver vfs does not keep them apart");
        text = docker_saved_format(&saved, NULL);
        assert_non_null(text);
        assert_int_equal(docker_saved_parse(text, strlen(text), &again, NULL), 0);
        assert_string_equal(again.rootfs_reason, saved.rootfs_reason);
        assert_true(json_equal(again.inspect, saved.inspect));
        assert_true(json_equal(again.volumes, saved.volumes));
        assert_true(json_equal(again.networks, saved.networks));
        assert_string_equal(again.storage_driver, "overlay2");
}

/* The good text with one part replaced. */
static char *changed(const char *part, const char *by) {
        const char *at = strstr(good, part);
        char *text = NULL;

        assert_non_null(at);
        assert_true(asprintf(&text, "%.*s%s%s", (int)(at - good), good, by, at + strlen(part)) > 0);
        return text;
}

static void test_refused(void **unused) {
        static const struct {
                const char *part, *by, *reason;
        } rows[] = {
                { "\"version\": 1", "\"version\": 2", "version 2" },
                { "\"version\": 1, ", "", "no version" },
                { "\"version\"", "\"time\": 0, \"version\"", "no JSON object" },
                { "\"volumes\": [", "\"other\": [", "something is missing" },
                { "\"networks\": {\"net1\": {}}", "\"networks\": []", "something is missing" },
                { "\"net1\": {}", "\"net1\": 1", "a network" },
                { "net1", "../net1", "a network" },
                { ID, "", "name the container" },
                { ID, "../../etc", "name the container" },
                { "/web", "//web", "name the container" },
                { "\"Config\": {\"Image\": \"bb:1\"}", "\"Config\": 7", "no configuration" },
                { "\"HostConfig\": {}", "\"HostConfig\": null", "no configuration" },
                { "{\"Id\": \"sha256:1\"}", "{}", "name the image" },
                { "\"Type\": \"volume\", ", "", "a volume" },
                { "\"rootfs\": \"diff\"", "\"rootfs\": \"all\"", "where the files are" },
                { "overlay2\"", "overlay2", "no JSON object" },
        };

        (void)unused;
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                _cleanup_saved_ struct docker_saved saved = { 0 };
                _cleanup_error_ struct st_error *error = NULL;
                _cleanup_free_ char *text = changed(rows[i].part, rows[i].by);

                assert_int_equal(docker_saved_parse(text, strlen(text), &saved, &error), -EBADMSG);
                if (!strstr(st_error_message(error), rows[i].reason))
                        fail_msg("row %zu: %s", i, st_error_message(error));
                assert_null(saved.inspect);
        }
}

static void test_long(void **unused) {
        _cleanup_saved_ struct docker_saved saved = { 0 };

        (void)unused;
        assert_int_equal(docker_saved_parse(good, DOCKER_SAVED_MAX + 1, &saved, NULL), -EBADMSG);
        /* Every beginning of it is no JSON; none is read beyond its end. */
        for (size_t n = 0; n < sizeof(good) - 1; n++) {
                _cleanup_free_ char *copy = malloc(n + 1);

                assert_non_null(copy);
                memcpy(copy, good, n);
                copy[n] = '}';
                assert_int_equal(docker_saved_parse(copy, n, &saved, NULL), -EBADMSG);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_long),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
