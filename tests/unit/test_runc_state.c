/* SPDX-License-Identifier: Apache-2.0 */

/* What the plugin runc reads: state.json, config.json, mounts to leave out, what runc says of itself and of errors. */

#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/messages.h"

#include "../../plugins/runc/runc_restore.h"

const struct runc_engine runc_engine = {
        .name = "runc",
        .root = "/run/runc",
        .criu_config = "/etc/criu/runc.conf",
        .has_state_file = true,
        .version = { 1, 1 },
};

static char root[64];

static int make_root(void **state) {
        (void)state;
        (void)snprintf(root, sizeof(root), "/tmp/stasis-runc.XXXXXX");
        return mkdtemp(root) && chdir(root) == 0 && mkdir("c1", 0700) == 0 && mkdir("bundle", 0700) == 0 ? 0 : -1;
}

static int remove_root(void **state) {
        (void)state;
        return chdir("/") < 0 ? -1 : io_remove_tree(root);
}

static void put(const char *path, const char *text) {
        (void)unlink(path);
        assert_int_equal(util_write_new(path, text, strlen(text)), 0);
}

/* When this process began, as the kernel counts: field 22, 19 behind the name's end and the state. */
static uint64_t own_start(void) {
        _cleanup_free_ char *text = NULL;
        uint64_t start = 0;

        assert_int_equal(util_read_file("/proc/self/stat", 65536, &text, NULL), 0);
        char *at = strrchr(text, ')') + 4;
        for (int i = 0; i < 18; i++)
                at = strchr(at, ' ') + 1;
        start = strtoull(at, NULL, 10);
        assert_true(start > 0);
        return start;
}

/* state.json of c1, by that PID and beginning. */
static void put_state(intmax_t pid, uint64_t start) {
        _cleanup_free_ char *text =
                util_printf("{\"id\": \"c1\", \"init_process_pid\": %jd, \"init_process_start\": %" PRIu64
                            ", \"cgroup_paths\": {\"freezer\": \"%s/cgroup\", \"\": \"%s/cgroup2\"},"
                            " \"external_descriptors\": [\"/dev/null\", \"pipe:[1]\"],"
                            " \"config\": {\"labels\": [7, \"bundlex=/no\", \"bundle=%s/bundle\", \"a=b\"]}}",
                            pid, start, root, root, root);

        put("c1/state.json", text);
}

static void expect_status(enum runc_status status, pid_t pid) {
        _cleanup_container_ struct runc_container container = { 0 };

        assert_int_equal(runc_container_load(root, "c1", &container, NULL), 0);
        assert_string_equal(runc_status_name(container.status), runc_status_name(status));
        assert_int_equal(container.pid, pid);
}

static void test_status(void **state) {
        const uint64_t start = own_start();

        (void)state;
        put_state(getpid(), start);
        expect_status(RUNC_RUNNING, getpid());
        /* The number is another process's now. */
        put_state(getpid(), start + 1);
        expect_status(RUNC_STOPPED, 0);
        put_state(0, 0);
        expect_status(RUNC_STOPPED, 0);

        put_state(getpid(), start);
        put("c1/exec.fifo", "");
        expect_status(RUNC_CREATED, getpid());
        assert_int_equal(unlink("c1/exec.fifo"), 0);

        assert_int_equal(mkdir("cgroup", 0700), 0);
        assert_int_equal(mkdir("cgroup2", 0700), 0);
        put("cgroup/freezer.state", "THAWED\n");
        put("cgroup2/cgroup.freeze", "0\n");
        expect_status(RUNC_RUNNING, getpid());
        put("cgroup/freezer.state", "FREEZING\n");
        expect_status(RUNC_PAUSED, getpid());
        put("cgroup/freezer.state", "THAWED\n");
        put("cgroup2/cgroup.freeze", "1\n");
        expect_status(RUNC_PAUSED, getpid());
}

static void test_bundle(void **state) {
        _cleanup_container_ struct runc_container container = { 0 }, without = { 0 };

        (void)state;
        put_state(0, 0);
        assert_int_equal(runc_container_load(root, "c1", &without, NULL), 0);
        assert_non_null(strstr(without.bundle, "/bundle"));
        assert_null(without.config);
        assert_null(runc_variable(without.config, "A"));

        put("bundle/config.json", "{\"process\": {\"env\": [\"AB=1\", null, \"A\", \"A=2=3\", \"A=4\"]}}");
        assert_int_equal(runc_container_load(root, "c1", &container, NULL), 0);
        assert_string_equal(runc_variable(container.config, "A"), "2=3");
        assert_null(runc_variable(container.config, "B"));

        _cleanup_free_ char *text = runc_state_save(&container);
        _cleanup_json_ json_t *saved = json_loads(text, 0, NULL);
        assert_string_equal(util_json_text(saved, "engine", NULL), "runc");
        assert_string_equal(util_json_text(saved, "id", NULL), "c1");
        assert_string_equal(util_json_text(saved, "bundle", NULL), container.bundle);
        assert_int_equal(json_array_size(json_object_get(saved, "labels")), 4);
        assert_string_equal(json_string_value(json_array_get(json_object_get(saved, "descriptors"), 1)), "pipe:[1]");
}

static void expect_bad(const char *text, int number, const char *part) {
        _cleanup_container_ struct runc_container container = { 0 };
        _cleanup_error_ struct st_error *error = NULL;

        put("c1/state.json", text);
        assert_int_equal(runc_container_load(root, "c1", &container, &error), -number);
        if (!strstr(st_error_message(error), part))
                fail_msg("not '%s': %s", part, st_error_message(error));
}

static void test_bad_state(void **state) {
        (void)state;
        expect_bad("", EBADMSG, "c1/state.json is no JSON object");
        expect_bad("[1]", EBADMSG, "is no JSON object");
        expect_bad("{\"init_process_pid\": 1", EBADMSG, "is no JSON object");
        expect_bad("{\"id\": 1, \"id\": 2}", EBADMSG, "duplicate");
        expect_bad("{\"init_process_pid\": -1}", EBADMSG, "is no PID");
        expect_bad("{\"init_process_pid\": 4294967297}", EBADMSG, "is no PID");
        assert_int_equal(unlink("c1/state.json"), 0);
        assert_int_equal(mkdir("c1/state.json", 0700), 0);

        _cleanup_container_ struct runc_container container = { 0 };
        _cleanup_error_ struct st_error *error = NULL;
        assert_int_equal(runc_container_load(root, "c1", &container, &error), -EISDIR);
        assert_int_equal(rmdir("c1/state.json"), 0);

        /* Types that are not what they should be are nothing. */
        put("c1/state.json",
            "{\"init_process_pid\": \"1\", \"cgroup_paths\": 3, \"config\": {\"labels\": \"bundle=/x\"}}");
        expect_status(RUNC_STOPPED, 0);
}

static void test_ids(void **state) {
        static const char *const good[] = { "a", "c_1+2-3.4", "..." };
        static const char *const bad[] = { "", ".", "..", "a/b", "a b", "\xc3\xa9", "a\n", NULL };
        char longest[257];

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                assert_int_equal(runc_check_id(good[i], NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(runc_check_id(bad[i], NULL), -EINVAL);
        memset(longest, 'a', sizeof(longest));
        longest[256] = '\0';
        assert_int_equal(runc_check_id(longest, NULL), -EINVAL);
        longest[255] = '\0';
        assert_int_equal(runc_check_id(longest, NULL), 0);

        _cleanup_container_ struct runc_container container = { 0 };
        assert_int_equal(runc_container_load(root, "nosuch", &container, NULL), -ENOENT);
}

static void test_config(void **state) {
        _cleanup_json_ json_t *config =
                json_loads("{\"linux\": {\"namespaces\": [5, {\"path\": \"/x\"}, {\"type\": \"pid\"},"
                           " {\"type\": \"network\", \"path\": \"/run/netns/n\"}]}, \"mounts\": ["
                           "{\"type\": \"bind\"}, {\"type\": \"none\", \"options\": [1, \"ro\", \"rbind\"]},"
                           "{\"type\": \"tmpfs\", \"options\": [\"binder\"]}, {\"options\": \"bind\"}, 7]}",
                           0, NULL);
        json_t *mounts = json_object_get(config, "mounts");
        const char *path;

        (void)state;
        assert_true(runc_has_namespace(config, "pid", &path));
        assert_null(path);
        assert_true(runc_has_namespace(config, "network", &path));
        assert_string_equal(path, "/run/netns/n");
        assert_false(runc_has_namespace(config, "ipc", &path));
        assert_false(runc_has_namespace(NULL, "ipc", &path));
        for (size_t i = 0; i < json_array_size(mounts); i++)
                assert_int_equal(runc_is_bind_mount(json_array_get(mounts, i)), i < 2);
}

/* Looks for the mounts that a value names, in this process. @return how it ended; lines and list are the caller's */
static int find(const char *value, const char *mounts, struct util_list *lines, json_t **list, Daemon__DumpResp *resp,
                struct st_error **err) {
        struct st_dump dump = { .size = sizeof(dump), .resp = resp };
        struct runc_container container = { .pid = getpid() };
        int r;

        container.config =
                json_pack("{s:{s:[o]}}", "process", "env", json_sprintf("STASIS_PERSISTENT_MOUNTS=%s", value));
        assert_non_null(container.config);
        json_object_set_new(container.config, "mounts", json_loads(mounts, 0, NULL));
        r = runc_mounts_find(&dump, &container, lines, list, err);
        json_decref(container.config);
        return r;
}

static void test_persistent_mounts(void **state) {
        _cleanup_list_ struct util_list lines = { 0 }, again = { 0 }, made = { 0 };
        _cleanup_(message_freep) Daemon__DumpResp *resp = message_new(&daemon__dump_resp__descriptor);
        _cleanup_json_ json_t *list = NULL;

        (void)state;
        /* One with a slash too many, one that is no mount point, and nothing between separators. */
        assert_int_equal(find(":/proc//,,/nosuch", "[]", &lines, &list, resp, NULL), 0);
        assert_int_equal(lines.n, 1);
        assert_string_equal(lines.items[0], "external mnt[/proc]:stasis-0");
        assert_int_equal(json_array_size(list), 1);
        assert_string_equal(util_json_text(json_array_get(list, 0), "point", NULL), "/proc");
        assert_string_equal(util_json_text(json_array_get(list, 0), "type", NULL), "proc");
        assert_string_equal(util_json_text(json_array_get(list, 0), "host", NULL), "/proc");
        assert_int_equal(resp->n_messages, 2);

        assert_int_equal(runc_mounts_supply(NULL, list, &again, &made, NULL), 0);
        assert_int_equal(again.n, 1);
        assert_string_equal(again.items[0], "external mnt[stasis-0]:/proc");
        assert_int_equal(made.n, 0);
}

static void test_mounts_of_config(void **state) {
        _cleanup_list_ struct util_list lines = { 0 };
        _cleanup_(message_freep) Daemon__DumpResp *resp = message_new(&daemon__dump_resp__descriptor);
        _cleanup_json_ json_t *bound = NULL, *other = NULL;

        (void)state;
        /* runc sees to its bind mounts; a mount of another kind is left out by us. */
        assert_int_equal(
                find("/proc", "[{\"type\": \"bind\", \"destination\": \"/proc\"}]", &lines, &bound, resp, NULL), 0);
        assert_int_equal(lines.n, 0);
        assert_int_equal(json_array_size(bound), 0);
        assert_int_equal(
                find("/proc", "[8, {\"destination\": \"/proc\", \"type\": \"proc\"}]", &lines, &other, resp, NULL), 0);
        assert_int_equal(lines.n, 1);
}

/* What would be something else in CRIU's configuration file is refused. */
static void test_bad_mounts(void **state) {
        static const char *const bad[] = { "relative", "/a\nexec-cmd", "/a]", "/a[b", "/a#b", "/a\"b" };
        static const char *const saved[] = {
                "[{\"point\": \"/a\", \"type\": \"tmpfs\"}]",
                "[{\"point\": 1, \"type\": \"tmpfs\", \"source\": \"x\", \"host\": \"/\"}]",
                "[{\"point\": \"/a\", \"type\": \"x\", \"source\": \"x\", \"host\": \"/\\nexec-cmd\"}]",
                "[5]",
        };
        _cleanup_(message_freep) Daemon__DumpResp *resp = message_new(&daemon__dump_resp__descriptor);
        _cleanup_list_ struct util_list lines = { 0 }, made = { 0 };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_error_ struct st_error *error = NULL;
                _cleanup_json_ json_t *list = NULL;

                assert_int_equal(find(bad[i], "[]", &lines, &list, resp, &error), -EINVAL);
                assert_non_null(strstr(st_error_message(error), "STASIS_PERSISTENT_MOUNTS"));
                assert_null(list);
        }
        for (size_t i = 0; i < ELEMENTSOF(saved); i++) {
                _cleanup_json_ json_t *list = json_loads(saved[i], 0, NULL);

                assert_non_null(list);
                assert_int_equal(runc_mounts_supply(NULL, list, &lines, &made, NULL), -EBADMSG);
        }
        _cleanup_json_ json_t *gone = json_loads(
                "[{\"point\": \"/a\", \"type\": \"x\", \"source\": \"x\", \"host\": \"/nosuch/dir\"}]", 0, NULL);
        assert_int_equal(runc_mounts_supply(NULL, gone, &lines, &made, NULL), -ENOENT);
        assert_int_equal(lines.n, 0);
}

static void expect_said(const char *output, const char *expected) {
        _cleanup_free_ char *said = runc_last_error(output);

        if (!expected)
                assert_null(said);
        else {
                assert_non_null(said);
                assert_string_equal(said, expected);
        }
}

static void test_last_error(void **state) {
        (void)state;
        expect_said("", NULL);
        expect_said("\n\n", NULL);
        expect_said("{\"level\": \"warning\", \"msg\": \"w\"}\n", NULL);
        expect_said("{\"level\": \"error\", \"msg\": \"one\"}\n{\"level\": \"fatal\", \"msg\": \"two\"}\nplain\n",
                    "two");
        expect_said("{\"msg\": \"no level\"}", "no level");
        expect_said("first\n{\"broken\nlast", "last");
        expect_said("{\"level\": \"error\", \"msg\": 5}\n", NULL);
        assert_int_equal(runc_wait_status(7), 7 << 8);
        assert_int_equal(runc_wait_status(137), 9);
}

/* `runc` in PATH is a script that prints so, and ends so. */
static void expect_version(const char *printed, int code, const char *data, const char *complaint) {
        _cleanup_(message_freep) Daemon__HealthCheckResult *result =
                message_new(&daemon__health_check_result__descriptor);
        _cleanup_free_ char *script = util_printf("#!/bin/sh\nprintf '%s'\nexit %d\n", printed, code);

        put("bin/runc", script);
        assert_int_equal(chmod("bin/runc", 0700), 0);
        assert_int_equal(runc_check_program(NULL, true, result, NULL), 0);
        assert_true(result->n_components > 0);
        const Daemon__HealthCheckComponent *version = result->components[0];
        assert_string_equal(version->name, "version");
        assert_string_equal(version->data ?: "none", data);
        const char *said = version->n_errors > 0     ? version->errors[0]
                           : version->n_warnings > 0 ? version->warnings[0]
                                                     : "";
        if (!*complaint)
                assert_string_equal(said, "");
        else if (!strstr(said, complaint))
                fail_msg("not '%s': %s", complaint, said);
}

static void test_version(void **state) {
        const char *before = getenv("PATH");
        _cleanup_free_ char *kept = util_strdup(before ?: ""), *path = util_printf("%s/bin:%s", root, kept);

        (void)state;
        assert_int_equal(mkdir("bin", 0700), 0);
        setenv("PATH", path, 1);
        expect_version("runc version 1.1.5+ds1\\ncommit: x\\n", 0, "1.1.5+ds1", "");
        expect_version("runc version 1.4.0-rc.1\\n", 0, "1.4.0-rc.1", "");
        expect_version("runc version 2.0", 0, "2.0", "");
        expect_version("runc version 1.0.3\\n", 0, "1.0.3", "1.1 or newer");
        expect_version("runc version unknown\\n", 0, "unknown", "1.1 or newer");
        expect_version("something else\\n", 0, "", "1.1 or newer");
        expect_version("", 0, "", "1.1 or newer");
        expect_version("runc version 1.1.5\\n", 3, "none", "ended with exit code 3");
        setenv("PATH", kept, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_status, make_root, remove_root),
                cmocka_unit_test_setup_teardown(test_bundle, make_root, remove_root),
                cmocka_unit_test_setup_teardown(test_bad_state, make_root, remove_root),
                cmocka_unit_test_setup_teardown(test_ids, make_root, remove_root),
                cmocka_unit_test(test_config),
                cmocka_unit_test(test_persistent_mounts),
                cmocka_unit_test(test_mounts_of_config),
                cmocka_unit_test(test_bad_mounts),
                cmocka_unit_test(test_last_error),
                cmocka_unit_test_setup_teardown(test_version, make_root, remove_root),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
