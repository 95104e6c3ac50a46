/* SPDX-License-Identifier: Apache-2.0 */

/* The configuration: its table, where it is read from, who wins. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/path.h"
#include "base/text.h"
#include "cli/config.h"
#include "engine/settings.h"

#define ARGV(...) ((char *const *)(const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static char directory[] = "/tmp/test-cli-settings-XXXXXX";

static void write_config(const char *text) {
        _cleanup_free_ char *path = path_join(directory, "config.json");

        if (text)
                assert_int_equal(io_replace_file(path, text, strlen(text), 0600, false), 0);
        else
                (void)unlink(path);
}

static struct st_arguments *load(void) {
        struct st_arguments *config = NULL;
        struct st_error *err = NULL;

        if (settings_load(NULL, directory, &config, &err) < 0)
                fail_msg("%s", st_error_message(err));
        return config;
}

static void assert_refused(const char *text, const char *part) {
        _cleanup_error_ struct st_error *err = NULL;
        struct st_arguments *config = NULL;

        write_config(text);
        assert_int_equal(settings_load(NULL, directory, &config, &err), -EINVAL);
        if (!strstr(st_error_message(err), part))
                fail_msg("'%s' does not say '%s'", st_error_message(err), part);
        write_config(NULL);
}

static void has_defaults(void **state) {
        _cleanup_(arguments_freep) struct st_arguments *config = load();

        (void)state;
        assert_string_equal(st_arguments_string(config, "Address"), "/run/stasis.sock");
        assert_string_equal(st_arguments_string(config, "Protocol"), "unix");
        assert_string_equal(st_arguments_string(config, "Checkpoint.Dir"), "/var/lib/stasis/checkpoints");
        assert_string_equal(st_arguments_string(config, "Checkpoint.Compression"), "image");
        assert_true(st_arguments_bool(config, "CRIU.LeaveRunning"));
        assert_int_equal(st_arguments_int(config, "CRIU.LogLevel"), 4);
        assert_string_equal(st_arguments_string(config, "CRIU.ManageCgroups"), "auto");
        assert_null(st_arguments_string(config, "CRIU.BinaryPath"));
        assert_false(st_arguments_bool(config, "Client.WaitForReady"));
        assert_int_equal(st_arguments_int(config, "Checkpoint.StreamMemoryLimit"), 0);
        assert_string_equal(st_arguments_string(config, "LogLevel"), "info");
        assert_string_equal(st_arguments_string(config, "LogLevelNoServer"), "warn");
        assert_false(st_arguments_given(config, "leave-running"));
}

static void file_then_environment_then_flag(void **state) {
        (void)state;
        write_config("{\n  \"Address\": \"/file\",\n"
                     "  \"Checkpoint\": { \"Dir\": \"/file\", \"StreamMemoryLimit\": \"1G\" },\n"
                     "  \"CRIU\": { \"LeaveRunning\": false }\n}\n");
        setenv("STASIS_CHECKPOINT_DIR", "/variable", 1);
        _cleanup_(arguments_freep) struct st_arguments *config = load();
        unsetenv("STASIS_CHECKPOINT_DIR");
        write_config(NULL);

        assert_string_equal(st_arguments_string(config, "Address"), "/file");
        assert_string_equal(st_arguments_string(config, "Checkpoint.Dir"), "/variable");
        assert_int_equal(st_arguments_int(config, "Checkpoint.StreamMemoryLimit"), 1 << 30);
        assert_false(st_arguments_bool(config, "leave-running"));
        assert_int_equal(arguments_parse(config, ARGV("--dir=/flag", "--address", "/flag"), SIZE_MAX, NULL), 0);
        assert_string_equal(st_arguments_string(config, "Checkpoint.Dir"), "/flag");
        assert_string_equal(st_arguments_string(config, "Address"), "/flag");
}

/** Several streams are archives: an image that is only configured gives way to them. */
static void chooses_a_format(void **state) {
        _cleanup_(arguments_freep) struct st_arguments *fresh = load();

        (void)state;
        assert_string_equal(settings_format(fresh, 0), "image");
        assert_string_equal(settings_format(fresh, 1), "image");
        assert_string_equal(settings_format(fresh, 2), "zstd");
        write_config("{ \"Checkpoint\": { \"Compression\": \"none\" } }");
        _cleanup_(arguments_freep) struct st_arguments *directories = load();
        write_config("{ \"Checkpoint\": { \"Compression\": \"gzip\" } }");
        _cleanup_(arguments_freep) struct st_arguments *archives = load();
        write_config(NULL);
        assert_string_equal(settings_format(directories, 0), "none");
        assert_string_equal(settings_format(directories, 2), "none");
        assert_string_equal(settings_format(archives, 2), "gzip");
}

static void refuses_what_it_does_not_know(void **state) {
        (void)state;
        assert_refused("{\n\"Checkpoint\": {\n\"Dri\": \"/x\" } }", "config.json:3: unknown key Checkpoint.Dri");
        assert_refused("{ \"Protocol\": \"udp\" }", "expected unix");
        assert_refused("{ \"Checkpoint\": { \"Compression\": \"rar\" } }", "none, tar, gzip, lz4, zlib, zstd or image");
        assert_refused("{ \"CRIU\": { \"LogLevel\": 9 } }", "CRIU.LogLevel");
        assert_refused("{ \"LogLevel\": \"loud\" }", "LogLevel");
        assert_refused("no json", "config.json:1");
}

static void finds_its_directory(void **state) {
        _cleanup_free_ char *by_flag = NULL, *by_variable = NULL, *by_user = NULL;

        (void)state;
        setenv("STASIS_CONFIG_DIR", "/by/variable", 1);
        by_flag = settings_directory("/by/flag");
        by_variable = settings_directory(NULL);
        unsetenv("STASIS_CONFIG_DIR");
        by_user = settings_directory(NULL);

        assert_string_equal(by_flag, "/by/flag");
        assert_string_equal(by_variable, "/by/variable");
        assert_true(text_ends_with(by_user, "/stasis"));
}

static void goes_to_a_worker_and_back(void **state) {
        _cleanup_(arguments_freep) struct st_arguments *config = NULL, *worker = NULL;
        _cleanup_free_ char *json = NULL;

        (void)state;
        setenv("STASIS_CRIU_LOG_LEVEL", "2", 1);
        setenv("STASIS_PLUGINS_LIB_DIR", "/plugins, \"here\"", 1);
        config = load();
        unsetenv("STASIS_CRIU_LOG_LEVEL");
        unsetenv("STASIS_PLUGINS_LIB_DIR");

        json_t *object = arguments_to_json(config);
        json = json_dumps(object, 0);
        json_decref(object);
        assert_int_equal(settings_from_json(json, &worker, NULL), 0);
        assert_int_equal(st_arguments_int(worker, "CRIU.LogLevel"), 2);
        assert_string_equal(st_arguments_string(worker, "Plugins.LibDir"), "/plugins, \"here\"");
        assert_true(st_arguments_bool(worker, "CRIU.LeaveRunning"));
        assert_int_equal(settings_from_json("{\"Nonsense\": 1}", &worker, NULL), -EINVAL);
}

/* Every row that is a setting says what it is for, and its default fits it (arguments_new() asserts that). */
static void rows_are_complete(void **state) {
        static const struct st_option *const tables[] = { settings_global, settings_dump, settings_keys };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(tables); i++)
                for (const struct st_option *row = tables[i]; row->flag || row->key; row++) {
                        assert_non_null(row->key);
                        assert_non_null(row->help);
                        assert_true(row->flag != NULL || tables[i] == settings_keys);
                }
}

/* --init-config writes what can be read again, and leaves alone what is there; --merge-config replaces it. */
static void writes_a_file(void **state) {
        static const struct st_option flags[] = {
                { .flag = "init-config", .type = ST_OPTION_BOOL },
                { .flag = "merge-config", .type = ST_OPTION_BOOL },
                ST_OPTION_END,
        };
        _cleanup_(option_tables_clear) struct option_tables tables = { 0 };
        _cleanup_free_ char *below = path_join(directory, "a/b"), *path = path_join(below, "config.json");
        _cleanup_(arguments_freep) struct st_arguments *config = NULL, *again = NULL, *merged = NULL;
        struct stat st;

        (void)state;
        option_tables_add(&tables, flags);
        assert_int_equal(settings_load(&tables, below, &config, NULL), 0);
        assert_int_equal(arguments_parse(config, ARGV("--init-config", "--address=/mine"), SIZE_MAX, NULL), 0);
        assert_int_equal(config_write(config, below, NULL), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(settings_load(NULL, below, &again, NULL), 0);
        assert_string_equal(st_arguments_string(again, "Address"), "/run/stasis.sock"); /* a default */

        assert_int_equal(arguments_parse(config, ARGV("--merge-config"), SIZE_MAX, NULL), 0);
        assert_int_equal(config_write(config, below, NULL), 0);
        assert_int_equal(settings_load(NULL, below, &merged, NULL), 0);
        assert_string_equal(st_arguments_string(merged, "Address"), "/mine");
}

static int make_directory(void **state) {
        (void)state;
        unsetenv("STASIS_CONFIG_DIR");
        unsetenv("STASIS_CHECKPOINT_DIR");
        unsetenv("STASIS_ADDRESS");
        unsetenv("STASIS_CRIU_LEAVE_RUNNING");
        return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
        (void)state;
        return io_remove_tree(directory);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(has_defaults),        cmocka_unit_test(file_then_environment_then_flag),
                cmocka_unit_test(chooses_a_format),    cmocka_unit_test(refuses_what_it_does_not_know),
                cmocka_unit_test(finds_its_directory), cmocka_unit_test(goes_to_a_worker_and_back),
                cmocka_unit_test(rows_are_complete),   cmocka_unit_test(writes_a_file),
        };
        return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
