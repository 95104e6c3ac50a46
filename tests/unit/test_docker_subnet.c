/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../plugins/docker/docker_subnet.h"

static void inside(void **state) {
        (void)state;
        assert_true(docker_subnet_contains("10.201.7.0/24", "10.201.7.2"));
        assert_true(docker_subnet_contains("10.201.7.9/24", "10.201.7.255"));
        assert_true(docker_subnet_contains("172.16.0.0/12", "172.31.255.255"));
        assert_true(docker_subnet_contains("0.0.0.0/0", "8.8.8.8"));
        assert_true(docker_subnet_contains("10.0.0.1/32", "10.0.0.1"));
        assert_true(docker_subnet_contains("fd00:1::/33", "fd00:1:7fff::9"));
        assert_true(docker_subnet_contains("::/0", "fe80::1"));
}

static void outside(void **state) {
        (void)state;
        assert_false(docker_subnet_contains("10.201.7.0/24", "10.201.8.2"));
        assert_false(docker_subnet_contains("172.16.0.0/12", "172.32.0.0"));
        assert_false(docker_subnet_contains("10.0.0.1/32", "10.0.0.2"));
        assert_false(docker_subnet_contains("fd00:1::/33", "fd00:1:8000::9"));
        assert_false(docker_subnet_contains("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert_false(docker_subnet_contains("fd00::/8", "10.0.0.1"));
}

static void nonsense(void **state) {
        static const char *const subnets[] = { "",
                                               "/",
                                               "10.0.0.0",
                                               "10.0.0.0/",
                                               "10.0.0.0/33",
                                               "10.0.0.0/-1",
                                               "10.0.0.0/8x",
                                               "10.0.0.0/ 8",
                                               "10.0.0/8",
                                               "fd00::/129",
                                               "x/8",
                                               "0000000000000000000000000000000000000000000000000000000000000000/8" };
        (void)state;
        for (size_t i = 0; i < sizeof(subnets) / sizeof(*subnets); i++) {
                assert_false(docker_subnet_contains(subnets[i], "10.0.0.1"));
                assert_false(docker_subnet_contains(subnets[i], "fd00::1"));
        }
        assert_false(docker_subnet_contains("10.0.0.0/8", ""));
        assert_false(docker_subnet_contains("10.0.0.0/8", "10.0.0"));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(inside),
                cmocka_unit_test(outside),
                cmocka_unit_test(nonsense),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
