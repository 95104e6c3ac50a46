/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/text.h"

#define ARGV(...) ((char *const *)(const char *const[]){ __VA_ARGS__, NULL })

static const struct st_option command_rows[] = {
        { "dir", 'd', ST_OPTION_STRING, "Checkpoint.Dir", "/var/lib/x", "DIR", "where the checkpoint goes", NULL },
        { "name", 0, ST_OPTION_STRING, NULL, NULL, "NAME", "how it is called", NULL },
        { "streams", 's', ST_OPTION_INT, "Checkpoint.Streams", "0", "N", "how many streams", NULL },
        { "limit", 'l', ST_OPTION_SIZE, "Checkpoint.StreamMemoryLimit", NULL, "BYTES", "memory to use", NULL },
        { "compression", 0, ST_OPTION_STRING, NULL, "zstd", "NAME", "how to compress", "none|tar|gzip|zstd" },
        { "external", 'e', ST_OPTION_LIST, "CRIU.External", NULL, "KEY", "what CRIU leaves alone", NULL },
        { "all", 'a', ST_OPTION_BOOL, NULL, NULL, NULL, "all of them", NULL },
        { "tree", 't', ST_OPTION_BOOL, NULL, NULL, NULL, "as a tree", NULL },
        { "leave-running", 0, ST_OPTION_BOOL, "CRIU.LeaveRunning", "true", "BOOL", "the target lives on", NULL },
        { .flag = "wait", .letter = 'w', .type = ST_OPTION_STRING, .help = "how long", .bare = "0" },
        ST_OPTION_END,
};
static const struct st_option global_rows[] = {
        { "address", 0, ST_OPTION_STRING, "Address", NULL, "ADDRESS", "of the daemon", NULL },
        { "dir", 0, ST_OPTION_STRING, NULL, NULL, "DIR", "hidden by the command's", NULL },
        { NULL, 0, ST_OPTION_STRING, "Checkpoint.Dir", "/ignored", NULL, "the same value as --dir", NULL },
        { NULL, 0, ST_OPTION_BOOL, "Metrics.Enabled", "false", NULL, "count things", NULL },
        { NULL, 0, ST_OPTION_LIST, "Metrics.Labels", "a,b", NULL, "with each count", NULL },
        ST_OPTION_END,
};

static struct st_arguments *new_arguments(void) {
        struct option_tables tables = { 0 };

        option_tables_add(&tables, command_rows);
        option_tables_add(&tables, global_rows);
        struct st_arguments *arguments = arguments_new(&tables);
        option_tables_clear(&tables);
        return arguments;
}

static const struct st_option *row_named(const char *name) {
        struct option_tables tables = { 0 };

        option_tables_add(&tables, command_rows);
        option_tables_add(&tables, global_rows);
        const struct st_option *row = option_tables_find(&tables, name);
        option_tables_clear(&tables);
        return row;
}

/* malloc'ed */
static char *join(const char *const *list) {
        struct strv copy = { 0 };

        for (; *list; list++)
                strv_add(&copy, *list);
        char *text = strv_join(&copy, "|");
        strv_clear(&copy);
        return text;
}

static void variables(void **state) {
        (void)state;
        static const char *const cases[][2] = {
                { "Checkpoint.Dir", "STASIS_CHECKPOINT_DIR" },
                { "AWS.AccessKeyID", "STASIS_AWS_ACCESS_KEY_ID" },
                { "DB.Path", "STASIS_DB_PATH" },
                { "CRIU.BinaryPath", "STASIS_CRIU_BINARY_PATH" },
                { "LogLevelNoServer", "STASIS_LOG_LEVEL_NO_SERVER" },
                { "Plugins.LibDir", "STASIS_PLUGINS_LIB_DIR" },
                { "Address", "STASIS_ADDRESS" },
                { "TLS.CAFile", "STASIS_TLS_CA_FILE" },
                { "X.S3Key", "STASIS_X_S3_KEY" },
        };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *variable = option_variable(cases[i][0]);
                assert_string_equal(variable, cases[i][1]);
        }
}

static void defaults(void **state) {
        (void)state;
        _cleanup_(arguments_freep) struct st_arguments *a = new_arguments();
        _cleanup_free_ char *labels = join(st_arguments_list(a, "Metrics.Labels"));

        assert_string_equal(st_arguments_string(a, "dir"), "/var/lib/x");
        assert_string_equal(st_arguments_string(a, "Checkpoint.Dir"), "/var/lib/x");
        assert_null(st_arguments_string(a, "name"));
        assert_null(st_arguments_string(a, "no such option"));
        assert_int_equal(st_arguments_int(a, "streams"), 0);
        assert_int_equal(st_arguments_int(a, "limit"), 0);
        assert_true(st_arguments_bool(a, "leave-running"));
        assert_false(st_arguments_bool(a, "all"));
        assert_string_equal(labels, "a|b");
        assert_null(st_arguments_list(a, "external")[0]);
        assert_null(st_arguments_words(a)[0]);
        assert_false(st_arguments_given(a, "dir"));
        assert_string_equal(arguments_where(a, row_named("dir")), "default");
        assert_int_equal(arguments_origin(a, row_named("limit")), ORIGIN_DEFAULT);
}

static void flags_and_words(void **state) {
        (void)state;
        _cleanup_(arguments_freep) struct st_arguments *a = new_arguments();
        _cleanup_error_ struct st_error *err = NULL;

        assert_int_equal(arguments_parse(a,
                                         ARGV("process", "--dir=/a=b", "42", "--name", "--odd", "-s4", "-l", "2M", "-",
                                              "-e", "x", "-ta", "--external=y,z", "--", "--all", "-x"),
                                         SIZE_MAX, &err),
                         0);
        _cleanup_free_ char *words = join(st_arguments_words(a)), *external = join(st_arguments_list(a, "external"));
        assert_string_equal(words, "process|42|-|--all|-x");
        assert_string_equal(external, "x|y,z");
        assert_string_equal(st_arguments_string(a, "dir"), "/a=b");
        assert_string_equal(st_arguments_string(a, "Checkpoint.Dir"), "/a=b");
        assert_string_equal(st_arguments_string(a, "name"), "--odd");
        assert_int_equal(st_arguments_int(a, "streams"), 4);
        assert_int_equal(st_arguments_int(a, "limit"), 2 * 1024 * 1024);
        assert_true(st_arguments_bool(a, "all") && st_arguments_bool(a, "tree"));
        assert_true(st_arguments_given(a, "dir") && st_arguments_given(a, "Checkpoint.Dir"));
        assert_false(st_arguments_given(a, "compression"));
        assert_string_equal(arguments_where(a, row_named("dir")), "--dir");

        arguments_drop_words(a, 3);
        assert_string_equal(st_arguments_words(a)[0], "--all");
        arguments_drop_words(a, 99);
        assert_null(st_arguments_words(a)[0]);
}

static void bools_take_a_value_after_an_equals_sign_only(void **state) {
        (void)state;
        _cleanup_(arguments_freep) struct st_arguments *a = new_arguments();

        assert_int_equal(arguments_parse(a, ARGV("--leave-running=no", "-a", "false", "-t=off"), SIZE_MAX, NULL), 0);
        assert_string_equal(st_arguments_string(a, "leave-running"), "false");
        assert_true(st_arguments_bool(a, "all"));
        assert_string_equal(st_arguments_words(a)[0], "false");
        assert_false(st_arguments_bool(a, "tree"));
        assert_true(st_arguments_given(a, "tree"));
        assert_int_equal(arguments_parse(a, ARGV("-d=/x", "--leave-running"), SIZE_MAX, NULL), 0);
        assert_string_equal(st_arguments_string(a, "dir"), "/x");
        assert_true(st_arguments_bool(a, "leave-running")); /* the last one wins */
}

static void bare_flags_never_take_the_next_argument(void **state) {
        static const struct {
                const char *argv[4];
                const char *value, *words;
        } cases[] = {
                { { "--wait", "5s" }, "0", "5s" }, { { "--wait=5s", "x" }, "5s", "x" },
                { { "--wait=", "x" }, "", "x" },   { { "-w", "5s" }, "0", "5s" },
                { { "-w5s", "x" }, "5s", "x" },    { { "-w=5s", "x" }, "5s", "x" },
                { { "--wait" }, "0", "" },         { { "--wait=1m", "--wait" }, "0", "" },
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(arguments_freep) struct st_arguments *a = new_arguments();

                assert_null(st_arguments_string(a, "wait"));
                assert_int_equal(arguments_parse(a, (char *const *)cases[i].argv, SIZE_MAX, NULL), 0);
                assert_true(st_arguments_given(a, "wait"));
                assert_string_equal(st_arguments_string(a, "wait"), cases[i].value);
                _cleanup_free_ char *words = join(st_arguments_words(a));
                assert_string_equal(words, cases[i].words);
        }
}

static void words_stop_the_flags(void **state) {
        (void)state;
        _cleanup_(arguments_freep) struct st_arguments *a = new_arguments();

        /* The words of both calls count. */
        assert_int_equal(arguments_parse(a, ARGV("run", "-a"), 3, NULL), 0);
        assert_int_equal(arguments_parse(a, ARGV("process", "-t", "sh", "-c", "--", "--dir"), 3, NULL), 0);
        _cleanup_free_ char *words = join(st_arguments_words(a));
        assert_string_equal(words, "run|process|sh|-c|--|--dir");
        assert_true(st_arguments_bool(a, "tree"));
}

static void wrong_flags_are_named(void **state) {
        (void)state;
        static const struct {
                const char *const argv[3];
                const char *message;
        } cases[] = {
                { { "--strems", "4" }, "unknown flag --strems (hint: did you mean --streams?)" },
                { { "--strems=4" }, "unknown flag --strems (hint: did you mean --streams?)" },
                { { "--quite-other" }, "unknown flag --quite-other" },
                { { "--=x" }, "unknown flag --" },
                { { "-x" }, "unknown flag -x" },
                { { "-atx" }, "unknown flag -x in -atx" },
                { { "-ad", "/x" }, "-d (--dir) needs a value and must stand alone, not in -ad" },
                { { "--dir" }, "--dir needs a value: DIR" },
                { { "-d" }, "--dir needs a value: DIR" },
                { { "--compression" }, "--compression needs a value: none|tar|gzip|zstd" },
                { { "--streams=many" }, "--streams: expected a number, not \"many\"" },
                { { "--streams=" }, "--streams: expected a number, not \"\"" },
                { { "-s", "9223372036854775808" }, "--streams: \"9223372036854775808\" is out of range" },
                { { "-l8E" }, "--limit: expected a size such as 1048576, 512M or 2G, not \"8E\"" },
                { { "-l8388608T" }, "--limit: \"8388608T\" is out of range" },
                { { "--all=maybe" }, "--all: expected true or false, not \"maybe\"" },
                { { "--compression=gzp" },
                  "--compression: expected none, tar, gzip or zstd, not \"gzp\" (hint: did you mean gzip?)" },
        };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(arguments_freep) struct st_arguments *a = new_arguments();
                _cleanup_error_ struct st_error *err = NULL;

                assert_int_equal(arguments_parse(a, (char *const *)cases[i].argv, SIZE_MAX, &err), -EINVAL);
                assert_string_equal(st_error_message(err), cases[i].message);
        }
}

static void environment(void **state) {
        (void)state;
        _cleanup_(arguments_freep) struct st_arguments *a = new_arguments();
        _cleanup_error_ struct st_error *err = NULL;

        setenv("STASIS_CHECKPOINT_DIR", "/env", 1);
        setenv("STASIS_CRIU_EXTERNAL", "a,b,,c", 1);
        setenv("STASIS_CHECKPOINT_STREAMS", "", 1); /* not set */
        setenv("STASIS_METRICS_ENABLED", "ON", 1);
        assert_int_equal(arguments_load_environment(a, &err), 0);
        _cleanup_free_ char *external = join(st_arguments_list(a, "CRIU.External"));
        assert_string_equal(external, "a|b|c");
        assert_string_equal(st_arguments_string(a, "CRIU.External"), "a,b,c");
        assert_string_equal(st_arguments_string(a, "dir"), "/env");
        assert_true(st_arguments_bool(a, "Metrics.Enabled"));
        assert_false(st_arguments_given(a, "dir"));
        assert_int_equal(arguments_origin(a, row_named("dir")), ORIGIN_ENVIRONMENT);
        assert_string_equal(arguments_where(a, row_named("dir")), "STASIS_CHECKPOINT_DIR");

        setenv("STASIS_CHECKPOINT_STREAMS", "x", 1);
        assert_int_equal(arguments_load_environment(a, &err), -EINVAL);
        assert_string_equal(st_error_message(err), "STASIS_CHECKPOINT_STREAMS: expected a number, not \"x\"");
        unsetenv("STASIS_CHECKPOINT_DIR");
        unsetenv("STASIS_CRIU_EXTERNAL");
        unsetenv("STASIS_CHECKPOINT_STREAMS");
        unsetenv("STASIS_METRICS_ENABLED");
}

/* Writes a configuration file and loads it. */
static int load(struct st_arguments *a, const char *text, char *path, struct st_error **err) {
        static const char template[] = "/tmp/stasis-test-options.XXXXXX";

        memcpy(path, template, sizeof(template));
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
        close(fd);
        int r = arguments_load_file(a, path, err);
        unlink(path);
        return r;
}

static void configuration_files(void **state) {
        (void)state;
        static const char text[] = "{\n"
                                   "  \"Address\": \"a:1\",\n"
                                   "  \"Checkpoint\": {\"Streams\": 3,\n"
                                   "    \"Dir\": \"/file\", \"StreamMemoryLimit\": \"1G\"},\n"
                                   "  \"CRIU\": {\"External\": [\"x\", \"y,z\"], \"LeaveRunning\": false},\n"
                                   "  \"Metrics\": {\"Labels\": \"one,two\", \"Enabled\": true}\n"
                                   "}\n";
        _cleanup_(arguments_freep) struct st_arguments *a = new_arguments();
        _cleanup_error_ struct st_error *err = NULL;
        char path[64];

        int r = load(a, text, path, &err);
        assert_string_equal(st_error_message(err), "");
        assert_int_equal(r, 0);
        _cleanup_free_ char *external = join(st_arguments_list(a, "external"));
        _cleanup_free_ char *labels = join(st_arguments_list(a, "Metrics.Labels"));
        _cleanup_free_ char *expected = xasprintf("%s:4", path);
        assert_string_equal(external, "x|y,z");
        assert_string_equal(labels, "one|two");
        assert_int_equal(st_arguments_int(a, "streams"), 3);
        assert_true(st_arguments_int(a, "limit") == INT64_C(1) << 30);
        assert_false(st_arguments_bool(a, "leave-running"));
        assert_true(st_arguments_bool(a, "Metrics.Enabled"));
        assert_string_equal(arguments_where(a, row_named("dir")), expected);

        json_t *json = arguments_to_json(a);
        _cleanup_free_ char *shown = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
        json_decref(json);
        assert_string_equal(shown,
                            "{\"Address\":\"a:1\",\"CRIU\":{\"External\":[\"x\",\"y,z\"],\"LeaveRunning\":false},"
                            "\"Checkpoint\":{\"Dir\":\"/file\",\"StreamMemoryLimit\":1073741824,\"Streams\":3},"
                            "\"Metrics\":{\"Enabled\":true,\"Labels\":[\"one\",\"two\"]}}");

        assert_int_equal(load(a, "{\"CRIU\":{\"External\":[]}}", path, NULL), 0); /* replaces the first file's */
        assert_null(st_arguments_list(a, "external")[0]);
        assert_int_equal(arguments_load_file(a, "/nowhere/config.json", &err), 0);
        assert_int_equal(arguments_load_file(a, "/", &err), -EISDIR);
        assert_string_equal(st_error_message(err), "cannot read /: Is a directory");
}

static void mistakes_in_files_have_a_line(void **state) {
        (void)state;
        static const struct {
                const char *text, *message; /* of the message what follows the path */
        } cases[] = {
                { "{\n\"Checkpoint\": {\n\"Dir\": \"/x\",\n\"Dirr\": 1}}",
                  ":4: unknown key Checkpoint.Dirr (hint: did you mean Checkpoint.Dir?)" },
                { "{\"Chekpoint\":\n{\"Dir\": 1}}", ":1: unknown section Chekpoint (hint: did you mean Checkpoint?)" },
                { "{\n\"checkpoint.dir\": 1}", ":2: unknown key checkpoint.dir (hint: did you mean Checkpoint.Dir?)" },
                /* The same name elsewhere, in a value, in an array, escaped. */
                { "{\"Address\": \"Checkpoint\",\n \"Metrics\": {\"Labels\": [\"Dirr\",\n \"\\\"Dirr\\\":\"]},\n"
                  "\"Checkpoint\": {\"Dir\": \"Dirr\\n\\\\\",\n\"\\u0044irr\" : 1}}",
                  ":5: unknown key Checkpoint.Dirr (hint: did you mean Checkpoint.Dir?)" },
                { "{\"Metrics\": {\"Enabled\": true},\n\"Checkpoint\": {},\n\"Enabled\": true}",
                  ":3: unknown key Enabled" },
                { "{\n\n\"Checkpoint\": {\"Streams\": \"x\"}}",
                  ":3: Checkpoint.Streams: expected a whole number, not a text" },
                { "{\"Checkpoint\":\n{\"Streams\": 1.5}}",
                  ":2: Checkpoint.Streams: expected a whole number, not a fraction" },
                { "{\"Checkpoint\": {\"Streams\": null}}",
                  ":1: Checkpoint.Streams: expected a whole number, not null" },
                { "{\"Checkpoint\": {\"Streams\": true}}",
                  ":1: Checkpoint.Streams: expected a whole number, not true or false" },
                { "{\"Checkpoint\": {\"Dir\": {\"a\": 1}}}", ":1: Checkpoint.Dir: expected a text, not an object" },
                { "{\"Checkpoint\": {\"Dir\": 5}}", ":1: Checkpoint.Dir: expected a text, not a number" },
                { "{\"Checkpoint\": {\"StreamMemoryLimit\": true}}",
                  ":1: Checkpoint.StreamMemoryLimit: expected a size such as 1048576 or \"512M\", not true or false" },
                { "{\"Checkpoint\": {\"StreamMemoryLimit\": \"much\"}}",
                  ":1: Checkpoint.StreamMemoryLimit: expected a size such as 1048576, 512M or 2G, not \"much\"" },
                { "{\"Metrics\": {\"Enabled\": 1}}", ":1: Metrics.Enabled: expected true or false, not a number" },
                { "{\"CRIU\": {\"External\": [\"a\", 5]}}",
                  ":1: CRIU.External: expected a list of texts, not of a number" },
                { "{\"Checkpoint\": [1]}", ":1: Checkpoint: expected an object, not a list" },
                { "{\"CRIU\": {\"External\": [\"a\",\n [1]]}}",
                  ":1: CRIU.External: expected a list of texts, not of a list" },
                { "{\"CRIU\": {\"External\": {}}}", ":1: CRIU.External: expected a list of texts, not an object" },
                { "[]", ": expected an object, not a list" },
                { "{\n\"Address\": \"a\"\n\"b\"}", ":3: '}' expected near '\"b\"'" },
                { "{\"Address\": \"a\",\n\"Address\": \"b\"}", ":2: duplicate object key near '\"Address\"'" },
                { "", ":1: unexpected token near end of file" },
        };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(arguments_freep) struct st_arguments *a = new_arguments();
                _cleanup_error_ struct st_error *err = NULL;
                char path[64];

                assert_int_equal(load(a, cases[i].text, path, &err), -EINVAL);
                const char *rest = text_after(st_error_message(err), path);
                assert_non_null(rest);
                assert_string_equal(rest, cases[i].message);
        }
}

static void higher_origins_win(void **state) {
        (void)state;
        _cleanup_(arguments_freep) struct st_arguments *a = new_arguments();
        const struct st_option *dir = row_named("dir"), *external = row_named("external");

        assert_int_equal(arguments_set(a, dir, "/flag", ORIGIN_FLAG, "--dir", NULL), 0);
        assert_int_equal(arguments_set(a, dir, "/env", ORIGIN_ENVIRONMENT, "STASIS_X", NULL), 0);
        assert_int_equal(arguments_set(a, dir, "/file", ORIGIN_FILE, "f:1", NULL), 0);
        assert_string_equal(st_arguments_string(a, "dir"), "/flag");
        assert_int_equal(arguments_set(a, dir, "/again", ORIGIN_FLAG, "--dir", NULL), 0);
        assert_string_equal(st_arguments_string(a, "dir"), "/again");

        assert_int_equal(arguments_set(a, external, "file", ORIGIN_FILE, "f:1", NULL), 0);
        assert_int_equal(arguments_set(a, external, "env1", ORIGIN_ENVIRONMENT, "E", NULL), 0);
        assert_int_equal(arguments_set(a, external, "env2", ORIGIN_ENVIRONMENT, "E", NULL), 0);
        _cleanup_free_ char *list = join(st_arguments_list(a, "external"));
        assert_string_equal(list, "env1|env2");
}

static void config_flag_yields_to_flags(void **state) {
        (void)state;
        static const char config[] =
                "{\"Checkpoint\":{\"Dir\":\"/config\",\"Streams\":5},\"CRIU\":{\"External\":[\"c\"]}}";
        _cleanup_(arguments_freep) struct st_arguments *a = new_arguments();
        _cleanup_error_ struct st_error *err = NULL;

        setenv("STASIS_CHECKPOINT_STREAMS", "9", 1);
        assert_int_equal(arguments_load_environment(a, NULL), 0);
        unsetenv("STASIS_CHECKPOINT_STREAMS");
        assert_int_equal(arguments_parse(a, ARGV("--dir=/flag"), SIZE_MAX, NULL), 0);
        assert_int_equal(arguments_load_json(a, config, ORIGIN_FLAG, "--config", &err), 0);
        assert_int_equal(arguments_parse(a, ARGV("-ef"), SIZE_MAX, NULL), 0);
        assert_string_equal(st_arguments_string(a, "dir"), "/flag");
        assert_int_equal(st_arguments_int(a, "streams"), 5);
        assert_false(st_arguments_given(a, "streams"));
        assert_string_equal(arguments_where(a, row_named("streams")), "--config");
        assert_string_equal(st_arguments_string(a, "external"), "f");

        assert_int_equal(arguments_load_json(a, "{\n\"X\":1}", ORIGIN_FLAG, "--config", &err), -EINVAL);
        assert_string_equal(st_error_message(err), "--config: unknown key X");
}

static void help(void **state) {
        (void)state;
        static const struct st_option rows[] = {
                { "dir", 'd', ST_OPTION_STRING, NULL, "/x", "DIR", "directory of the checkpoint, made when missing",
                  NULL },
                { "kind", 0, ST_OPTION_STRING, NULL, NULL, "KIND", "what", "a|b" },
                { "external", 0, ST_OPTION_LIST, NULL, NULL, "KEY", "leave alone", NULL },
                { .flag = "wait",
                  .letter = 'w',
                  .type = ST_OPTION_STRING,
                  .value_name = "TIME",
                  .help = "long",
                  .bare = "0" },
                { "quiet", 'q', ST_OPTION_BOOL, NULL, "false", NULL, "say less", NULL },
                { "leave-running", 0, ST_OPTION_BOOL, NULL, "true", "BOOL", "go on", NULL },
                { "a-very-long-flag-that-is-long", 0, ST_OPTION_STRING, NULL, NULL, "VALUE", "below", NULL },
                { NULL, 0, ST_OPTION_STRING, "Only.Key", NULL, NULL, "not shown", NULL },
                ST_OPTION_END,
        };
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        options_print_help(f, rows, 60);
        fclose(f);
        assert_string_equal(text, "  -d, --dir DIR               directory of the checkpoint,\n"
                                  "                              made when missing (default:\n"
                                  "                              /x)\n"
                                  "      --kind KIND             what (one of a, b)\n"
                                  "      --external KEY …        leave alone\n"
                                  "  -w, --wait[=TIME]           long\n"
                                  "  -q, --quiet                 say less\n"
                                  "      --leave-running[=BOOL]  go on (default: true)\n"
                                  "      --a-very-long-flag-that-is-long VALUE\n"
                                  "                              below\n");
        free(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(variables),
                cmocka_unit_test(defaults),
                cmocka_unit_test(flags_and_words),
                cmocka_unit_test(bools_take_a_value_after_an_equals_sign_only),
                cmocka_unit_test(bare_flags_never_take_the_next_argument),
                cmocka_unit_test(words_stop_the_flags),
                cmocka_unit_test(wrong_flags_are_named),
                cmocka_unit_test(environment),
                cmocka_unit_test(configuration_files),
                cmocka_unit_test(mistakes_in_files_have_a_line),
                cmocka_unit_test(higher_origins_win),
                cmocka_unit_test(config_flag_yields_to_flags),
                cmocka_unit_test(help),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
