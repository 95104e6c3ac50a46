/* SPDX-License-Identifier: Apache-2.0 */

/* Which engines and containers are refused before anything is touched, and with which words. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

#include "../../plugins/docker/docker_preflight.h"

static const struct engine_version docker20 = { .version = "20.10.24", .major = 20, .minor = 10, .experimental = true };
static const struct engine_version docker28 = { .version = "28.5.1", .major = 28, .minor = 5, .experimental = true };
static const struct engine_version plain = { .version = "26.1.5", .major = 26, .minor = 1 };

static const char linux_info[] =
        "{\"OSType\": \"linux\", \"SecurityOptions\": [\"name=seccomp,profile=default\"],"
        " \"Runtimes\": {\"runc\": {\"path\": \"runc\"}, \"safe\": {\"path\": \"/opt/bin/runsc\"}}}";

static void expect(const struct engine_version *version, const char *info_text, const char *inspect_text, bool stop,
                   size_t n, const char *part) {
        _cleanup_problems_ struct docker_problems problems = { 0 };
        _cleanup_error_ struct st_error *error = NULL;
        json_t *info = json_loads(info_text, 0, NULL), *inspect = json_loads(inspect_text, 0, NULL);

        assert_non_null(info);
        assert_non_null(inspect);
        docker_preflight_engine(version, info, &problems);
        docker_preflight_container(version, info, inspect, stop, &problems);
        json_decref(info);
        json_decref(inspect);
        assert_int_equal(problems.n, n);
        assert_int_equal(docker_problems_error(&problems, &error) < 0, n > 0);
        if (!strstr(st_error_message(error), part))
                fail_msg("not '%s': %s", part, st_error_message(error));
}

static void test_network(void **unused) {
        (void)unused;
        expect(&docker20, linux_info, "{\"HostConfig\": {\"NetworkMode\": \"bridge\", \"Runtime\": \"runc\"}}", true, 0,
               "");
        expect(&docker28, linux_info, "{\"HostConfig\": {\"NetworkMode\": \"host\"}}", false, 0, "");
        expect(&docker28, linux_info, "{\"HostConfig\": {\"NetworkMode\": \"net1\"}}", false, 1,
               "Docker 28.5.1 cannot start a container of network mode net1 from a checkpoint");
        expect(&docker28, linux_info, "{\"HostConfig\": {\"NetworkMode\": \"container:x\"}}", false, 0, "");
        expect(&docker28, linux_info, "{\"HostConfig\": {}}", false, 1, "network mode default");
}

static void test_engine(void **unused) {
        (void)unused;
        expect(&plain, linux_info, "{}", false, 1, "/etc/docker/daemon.json");
        expect(&docker20, "{\"OSType\": \"windows\"}", "{}", false, 1, "of windows");
        expect(&docker20, "{\"SecurityOptions\": [\"name=rootless\"]}", "{}", false, 1, "rootless");
        /* All in one error. */
        expect(&plain, "{\"SecurityOptions\": [\"name=rootless\", 7]}", "{}", false, 2, "2 problems: ");
}

static void test_container(void **unused) {
        static const char task[] = "{\"Config\": {\"Labels\": {\"com.docker.swarm.service.id\": \"x\"}}}";

        (void)unused;
        expect(&docker20, linux_info, "{\"HostConfig\": {\"Runtime\": \"safe\"}}", false, 1, "runtime safe");
        expect(&docker20, linux_info, "{\"HostConfig\": {\"Runtime\": \"io.containerd.kata.v2\"}}", false, 1, "kata");
        expect(&docker20, linux_info, task, true, 1, "swarm");
        expect(&docker20, linux_info, task, false, 0, "");
}

/* A client whose PATH has no criu, as an engine's may have none. */
static void test_criu(void **unused) {
        _cleanup_problems_ struct docker_problems problems = { 0 };

        (void)unused;
        docker_preflight_criu(0, &problems);
        assert_int_equal(problems.n, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_network),
                cmocka_unit_test(test_engine),
                cmocka_unit_test(test_container),
                cmocka_unit_test(test_criu),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
