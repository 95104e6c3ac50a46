/* SPDX-License-Identifier: Apache-2.0 */

/* Who counts as root, and what a request may ask for in somebody's name. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "daemon/caller.h"
#include "engine/settings.h"

static gid_t groups[] = { 100, 200 };

static const struct rpc_peer root = { .refs = 1 };
static const struct rpc_peer user = {
        .refs = 1, .uid = 1000, .gid = 1000, .pid = 0, .groups = groups, .n_groups = ELEMENTSOF(groups)
};
static const struct rpc_peer remote = { .refs = 1,
                                        .uid = RPC_PEER_NOBODY,
                                        .gid = RPC_PEER_NOBODY,
                                        .address = (char *)"192.0.2.1:5",
                                        .name = (char *)"bob" };

static void root_is_who_the_rules_say(void **state) {
        const struct access_rules none = { 0 }, primary = { .has_group = true, .group = 1000 };
        const struct access_rules second = { .has_group = true, .group = 200 };
        const struct access_rules nobody = { .has_group = true, .group = RPC_PEER_NOBODY };

        (void)state;
        assert_true(caller_is_root(&none, &root));
        assert_false(caller_is_root(&none, &user));
        assert_true(caller_is_root(&primary, &user));
        assert_true(caller_is_root(&second, &user));
        assert_false(caller_is_root(&(struct access_rules){ .has_group = true, .group = 300 }, &user));
        /* A group 0 that was not configured is none. */
        assert_false(caller_is_root(&(struct access_rules){ .group = 200 }, &user));
        /* The socket's group says nothing of those that come by TCP. */
        assert_false(caller_is_root(&nobody, &remote));
}

static void names_of_certificates(void **state) {
        const char *const listed[] = { "alice", "bob", NULL };
        struct access_rules rules = { .root_names = listed };
        struct rpc_peer bob = remote, bobby = remote, nameless = remote;

        (void)state;
        bobby.name = (char *)"bobby";
        nameless.name = NULL;
        access_identify(&bob, &rules);
        access_identify(&bobby, &rules);
        access_identify(&nameless, &rules);
        assert_true(caller_is_root(&rules, &bob) && bob.gid == 0);
        assert_false(caller_is_root(&rules, &bobby));
        assert_false(caller_is_root(&rules, &nameless));
}

static void refusals_say_what_would_help(void **state) {
        const struct access_rules rules = { .has_group = true, .group = 5 };
        _cleanup_error_ struct st_error *local = NULL, *far = NULL, *nameless = NULL;
        struct rpc_peer unnamed = remote;

        (void)state;
        unnamed.name = NULL;
        assert_int_equal(caller_require_root(&rules, &root, NULL), 0);
        assert_int_equal(caller_require_root(&rules, &user, &local), -EPERM);
        assert_non_null(strstr(st_error_message(local), "user 1000"));
        assert_non_null(strstr(st_error_message(local), "Socket.Group"));
        assert_int_equal(caller_require_root(&rules, &remote, &far), -EPERM);
        assert_non_null(strstr(st_error_message(far), "add \"bob\" to TLS.Root"));
        assert_int_equal(caller_require_root(&rules, &unnamed, &nameless), -EPERM);
        assert_non_null(strstr(st_error_message(nameless), "192.0.2.1:5"));
}

static void descriptions(void **state) {
        struct rpc_peer self = user, odd = remote;

        (void)state;
        self.pid = getpid();
        odd.name = (char *)"a\nb";
        _cleanup_free_ char *one = caller_describe(&self), *two = caller_describe(&user),
                            *three = caller_describe(&odd);
        assert_non_null(text_after(one, "user 1000, group 1000, process "));
        assert_non_null(strstr(one, "(test_daemon_cal)"));
        assert_string_equal(two, "user 1000, group 1000");
        assert_string_equal(three, "CN a b at 192.0.2.1:5");
}

static int check(const struct rpc_peer *peer, const struct identity *identity) {
        const struct access_rules rules = { 0 };

        return caller_check_identity(&rules, peer, identity, NULL);
}

static void identities(void **state) {
        static const uint32_t same[] = { 200, 100 }, with_primary[] = { 1000, 100, 200, 100 }, fewer[] = { 100 };
        static const uint32_t more[] = { 100, 200, 0 };
        const struct identity others = {
                .has_uid = true, .uid = 5, .has_gid = true, .gid = 6, .groups = more, .n_groups = 3
        };

        (void)state;
        assert_int_equal(check(&root, &others), 0);
        assert_int_equal(check(&user, &(struct identity){ 0 }), 0);
        assert_int_equal(check(&user, &(struct identity){ .has_uid = true, .uid = 1000 }), 0);
        assert_int_equal(check(&user, &(struct identity){ .has_uid = true, .uid = 0 }), -EPERM);
        assert_int_equal(check(&user, &(struct identity){ .has_uid = true, .uid = 1001 }), -EPERM);
        assert_int_equal(check(&user, &(struct identity){ .has_gid = true, .gid = 1000 }), 0);
        assert_int_equal(check(&user, &(struct identity){ .has_gid = true, .gid = 0 }), -EPERM);
        /* A group that he is in is not the one that he is of. */
        assert_int_equal(check(&user, &(struct identity){ .has_gid = true, .gid = 100 }), -EPERM);
        assert_int_equal(check(&user, &(struct identity){ .groups = same, .n_groups = 2 }), 0);
        assert_int_equal(check(&user, &(struct identity){ .groups = with_primary, .n_groups = 4 }), 0);
        assert_int_equal(check(&user, &(struct identity){ .groups = fewer, .n_groups = 1 }), -EPERM);
        assert_int_equal(check(&user, &(struct identity){ .groups = more, .n_groups = 3 }), -EPERM);
        assert_int_equal(check(&remote, &(struct identity){ .has_uid = true, .uid = 0 }), -EPERM);
}

static void environments(void **state) {
        char *good[] = { (char *)"A=b", (char *)"EMPTY=", (char *)"B==c" };
        char *bad[][1] = { { (char *)"NAME" }, { (char *)"=value" }, { (char *)"" } };

        (void)state;
        assert_int_equal(check(&user, &(struct identity){ .env = good, .n_env = 3 }), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(check(&root, &(struct identity){ .env = bad[i], .n_env = 1 }), -EINVAL);
}

static struct st_arguments *config(const char *json) {
        struct st_arguments *config = NULL;

        assert_int_equal(settings_from_json(json, &config, NULL), 0);
        return config;
}

static void rules_from_the_configuration(void **state) {
        _cleanup_(arguments_freep) struct st_arguments *none = config("{}");
        _cleanup_(arguments_freep) struct st_arguments *named = config("{\"Socket\": {\"Group\": \"root\"}}");
        _cleanup_(arguments_freep) struct st_arguments *number =
                config("{\"Socket\": {\"Group\": \"4711\"}, \"TLS\": {\"Root\": [\"bob\"]}}");
        _cleanup_(arguments_freep) struct st_arguments *unknown =
                config("{\"Socket\": {\"Group\": \"no such group\"}}");
        _cleanup_error_ struct st_error *error = NULL;
        struct access_rules rules;
        struct rpc_peer bob = remote;

        (void)state;
        assert_int_equal(access_rules_load(none, &rules, NULL), 0);
        assert_false(rules.has_group);
        assert_int_equal(access_rules_load(named, &rules, NULL), 0);
        assert_true(rules.has_group && rules.group == 0);
        assert_int_equal(access_rules_load(number, &rules, NULL), 0);
        assert_true(rules.has_group && rules.group == 4711);
        access_identify(&bob, &rules);
        assert_int_equal(bob.uid, 0);
        assert_int_equal(access_rules_load(unknown, &rules, &error), -EINVAL);
        assert_non_null(strstr(st_error_message(error), "no such group"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(root_is_who_the_rules_say),
                cmocka_unit_test(names_of_certificates),
                cmocka_unit_test(refusals_say_what_would_help),
                cmocka_unit_test(descriptions),
                cmocka_unit_test(identities),
                cmocka_unit_test(environments),
                cmocka_unit_test(rules_from_the_configuration),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
