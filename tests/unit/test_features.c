/* SPDX-License-Identifier: Apache-2.0 */

/* What `stasis features` and `stasis plugin list` print. */

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/options.h"
#include "base/text.h"
#include "cli/features.h"
#include "plugin/registry.h"
#include "plugin_dir.h"

typedef int (*command)(const struct st_arguments *arguments, bool json, struct st_error **err);

/* Runs a command with its arguments; @return what it returned, and what it printed */
static int run(command call, bool json, char *const *argv, char **ret_output, struct st_error **err) {
        struct option_tables tables = { 0 };
        size_t size;

        option_tables_add(&tables, features_options);
        _cleanup_(arguments_freep) struct st_arguments *arguments = arguments_new(&tables);
        assert_int_equal(arguments_parse(arguments, argv, SIZE_MAX, NULL), 0);

        fflush(stdout);
        int fd = io_memfd("output", NULL, 0);
        int saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3), saved_error = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        assert_true(fd >= 0 && saved >= 0 && saved_error >= 0);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        int r = call(arguments, json, err);
        fflush(stdout);
        dup2(saved, STDOUT_FILENO);
        dup2(saved_error, STDERR_FILENO);
        close(saved);
        close(saved_error);

        _cleanup_free_ char *path = xasprintf("/proc/self/fd/%d", fd);
        assert_int_equal(io_read_file(AT_FDCWD, path, 1 << 20, ret_output, &size), 0);
        close(fd);
        option_tables_clear(&tables);
        return r;
}

#define RUN(call, json, output, err, ...) \
        run(call, json, (char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL }, output, err)

static void load(const char *directory, const char *const *plugins) {
        for (; *plugins; plugins++)
                free(plugin_dir_add(directory, *plugins, *plugins));
        registry_load(directory);
}

static const char *const all[] = { "sample", "crash", "other_abi", "missing_symbol", NULL };
static const char *const good[] = { "sample", NULL };

/* The line of a feature, its columns separated by single spaces; malloc'ed. */
static char *line_of(const char *output, const char *feature) {
        const char *line = strstr(output, feature);
        if (!line) {
                fail_msg("no line \"%s\" in %s", feature, output);
                return NULL;
        }

        char *copy = xstrndup(line, strcspn(line, "\n")), *to = copy;
        for (const char *from = copy; *from; from++)
                if (*from != ' ' || (from[1] != ' ' && from[1]))
                        *to++ = *from;
        *to = 0;
        return copy;
}

static void assert_line(const char *output, const char *feature, const char *expected) {
        _cleanup_free_ char *line = line_of(output, feature);
        assert_string_equal(line, expected);
}

static void test_table(void **state) {
        _cleanup_free_ char *output = NULL, *named = NULL;

        load(*state, all);
        assert_int_equal(RUN(cli_features, false, &output, NULL), 0);
        assert_line(output, "FEATURE", "FEATURE crash missing_symbol other_abi sample");
        assert_line(output, "command: dump TYPE", "command: dump TYPE ✔ ✖ ✖ ✔");
        assert_line(output, "command: restore TYPE", "command: restore TYPE • ✖ ✖ ✔");
        assert_line(output, "storage of", "storage of checkpoints by URL • ✖ ✖ •");
        assert_contains(output, "2 plugins cannot be used: see stasis features --errors");

        assert_int_equal(RUN(cli_features, false, &named, NULL, (char *)"runc", (char *)"sample"), 0);
        assert_line(named, "FEATURE", "FEATURE runc sample");
        assert_line(named, "health checks", "health checks — ✔");
        assert_null(strstr(named, "cannot be used"));
}

static void test_unknown_name(void **state) {
        _cleanup_free_ char *output = NULL;
        _cleanup_error_ struct st_error *err = NULL;

        load(*state, good);
        assert_int_equal(RUN(cli_features, false, &output, &err, (char *)"sampel"), -ENOENT);
        assert_string_equal(output, "");
        assert_contains(st_error_message(err), "there is no plugin sampel");
}

static void test_errors(void **state) {
        _cleanup_free_ char *output = NULL, *one = NULL, *expected = NULL, *warning = NULL;

        load(*state, all);
        assert_int_equal(RUN(cli_features, false, &output, NULL, (char *)"--errors"), 1);
        expected = xasprintf("plugin %s/missing_symbol.so: missing symbol st_function_of_tomorrow: "
                             "it was built for another stasis\n",
                             (char *)*state);
        assert_contains(output, expected);
        assert_contains(output, "/other_abi.so: ABI 2.0, this stasis has 1.4");
        assert_null(strstr(output, "FEATURE"));
        assert_null(strstr(output, "/sample.so"));

        /* A warning is no error. */
        assert_int_equal(RUN(cli_features, false, &one, NULL, (char *)"--errors", (char *)"crash"), 0);
        warning = xasprintf(
                "plugin %s/crash.so: warning: reaper (waiting for the processes of a job) has no effect in this "
                "version of stasis\n",
                (char *)*state);
        assert_string_equal(one, warning);
}

static void test_no_errors(void **state) {
        _cleanup_free_ char *output = NULL;

        load(*state, good);
        assert_int_equal(RUN(cli_features, false, &output, NULL, (char *)"--errors"), 0);
        assert_string_equal(output, "");
}

static json_t *parse_plugins(const char *output, size_t n) {
        json_t *object = json_loads(output, 0, NULL);

        assert_non_null(object);
        json_t *plugins = json_incref(json_object_get(object, "plugins"));
        json_decref(object);
        assert_int_equal(json_array_size(plugins), n);
        return plugins;
}

static void assert_text(const json_t *plugin, const char *key, const char *expected) {
        const json_t *value = json_object_get(plugin, key);

        assert_non_null(value);
        if (expected)
                assert_string_equal(json_string_value(value), expected);
        else
                assert_true(json_is_null(value));
}

static void test_json(void **state) {
        _cleanup_free_ char *output = NULL, *named = NULL, *list = NULL, *file = path_join(*state, "crash.so");

        load(*state, all);
        assert_int_equal(RUN(cli_features, true, &output, NULL, (char *)"--errors"), 1);
        json_t *plugins = parse_plugins(output, 4);
        json_t *crash = json_array_get(plugins, 0), *other = json_array_get(plugins, 2);
        assert_text(crash, "name", "crash");
        assert_text(crash, "version", "1.0");
        assert_text(crash, "file", file);
        assert_text(crash, "status", "loaded");
        assert_text(crash, "error", NULL);
        json_t *features = json_object_get(crash, "features");
        assert_int_equal(json_array_size(features), 3);
        assert_string_equal(json_string_value(json_array_get(features, 0)), "dump_command");
        assert_int_equal(json_array_size(json_object_get(crash, "without_effect")), 1);
        assert_text(other, "status", "incompatible");
        assert_contains(json_string_value(json_object_get(other, "error")), "ABI 2.0");
        assert_text(json_array_get(plugins, 1), "status", "broken");
        json_decref(plugins);

        assert_int_equal(RUN(cli_features, true, &named, NULL, (char *)"docker"), 0);
        plugins = parse_plugins(named, 1);
        assert_text(json_array_get(plugins, 0), "status", "not installed");
        assert_text(json_array_get(plugins, 0), "file", NULL);
        json_decref(plugins);

        assert_int_equal(RUN(cli_plugin_list, true, &list, NULL), 0);
        assert_string_equal(list, output);
}

static void test_list(void **state) {
        _cleanup_free_ char *output = NULL, *expected = NULL, *good_output = NULL;

        load(*state, all);
        assert_int_equal(RUN(cli_plugin_list, false, &output, NULL), 0);
        assert_line(output, "NAME", "NAME VERSION STATUS FILE ERROR");
        expected = xasprintf("sample 1.0 loaded %s/sample.so", (char *)*state);
        assert_line(output, "sample ", expected);
        assert_contains(output, "ABI 2.0");
        assert_int_equal(RUN(cli_plugin_list, false, &good_output, NULL, (char *)"sample"), 0);
        assert_line(good_output, "NAME", "NAME VERSION STATUS FILE");
}

static void test_none(void **state) {
        _cleanup_free_ char *output = NULL, *list = NULL;

        load(*state, (const char *const[]){ NULL });
        assert_int_equal(RUN(cli_features, false, &output, NULL), 0);
        assert_line(output, "health checks", "health checks");
        assert_int_equal(RUN(cli_plugin_list, true, &list, NULL), 0);
        json_decref(parse_plugins(list, 0));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_table, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_unknown_name, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_errors, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_no_errors, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_json, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_list, plugin_dir_setup, plugin_dir_teardown),
                cmocka_unit_test_setup_teardown(test_none, plugin_dir_setup, plugin_dir_teardown),
        };

        setlocale(LC_CTYPE, "C.UTF-8");
        return cmocka_run_group_tests(tests, NULL, NULL);
}
