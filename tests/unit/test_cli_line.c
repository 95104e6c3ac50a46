/* SPDX-License-Identifier: Apache-2.0 */

/* Which command a command line means: flags and words in any order, what is unknown, what help says. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/options.h"
#include "cli/command.h"
#include "cli/help.h"
#include "cli/line.h"

#define ARGV(...) ((char *const *)(const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static void assert_rest(const struct line *line, const char *expected) {
        _cleanup_free_ char *rest = strv_join(&line->arguments, " ");
        assert_string_equal(rest, expected);
}

static void assert_error(char *const *argv, const char *part) {
        _cleanup_(line_clear) struct line line = { 0 };
        _cleanup_error_ struct st_error *err = NULL;

        assert_int_equal(line_parse(argv, &line, &err), -EINVAL);
        if (!strstr(st_error_message(err), part))
                fail_msg("'%s' does not say '%s'", st_error_message(err), part);
}

static void finds_every_command(void **state) {
        (void)state;
        for (size_t i = 0; commands[i]; i++) {
                _cleanup_(line_clear) struct line line = { 0 };
                _cleanup_strv_ struct strv words = { 0 };

                strv_split(&words, commands[i]->path, ' ');
                assert_int_equal(line_parse(words.items, &line, NULL), 0);
                assert_ptr_equal(line.command, commands[i]);
                assert_int_equal(line.arguments.n, 0);
        }
}

static void finds_aliases(void **state) {
        _cleanup_(line_clear) struct line features = { 0 }, plugins = { 0 };

        (void)state;
        assert_int_equal(line_parse(ARGV("features", "--errors"), &features, NULL), 0);
        assert_ptr_equal(features.command, &command_plugin_features);
        assert_rest(&features, "--errors");
        assert_int_equal(line_parse(ARGV("plugins"), &plugins, NULL), 0);
        assert_ptr_equal(plugins.command, &command_plugin_list);
        assert_ptr_equal(command_find("ps"), &command_job_list);
        assert_ptr_equal(command_find("jobs"), &command_job_list);
        assert_ptr_equal(command_find("checkpoints"), &command_job_checkpoint_list);
        assert_null(command_find("ps|jobs"));
        assert_null(command_find("p"));
}

static void skips_flags_and_their_values(void **state) {
        static const char *const lines[][12] = {
                { "dump", "process", "42", "-d", "/x", "--no-server" },
                { "-d", "/x", "--no-server", "dump", "process", "42" },
                { "dump", "--no-server", "-d", "/x", "process", "42" },
                { "dump", "--no-server", "process", "42", "-d/x" },
                { "--no-server", "dump", "-d=/x", "process", "42" },
                { "--dir=/x", "dump", "process", "--no-server", "42" },
                { "--dir", "dump", "dump", "process", "--no-server", "42" },
                { "--address", "restore", "dump", "process", "--no-server", "42", "--dir", "/x" },
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                _cleanup_(line_clear) struct line line = { 0 };

                assert_int_equal(line_parse((char *const *)lines[i], &line, NULL), 0);
                assert_ptr_equal(line.command, &command_dump);
                assert_non_null(line.type);
                assert_string_equal(line.type->type, "process");
                assert_true(strv_has(&line.arguments, "42"));
                assert_true(strv_has(&line.arguments, "--no-server"));
                assert_false(strv_has(&line.arguments, "process"));
        }
}

static void bare_flags_leave_the_next_word(void **state) {
        static const char *const lines[][5] = {
                { "--checkpoint", "daemon", "stop" },
                { "daemon", "--checkpoint", "stop" },
                { "daemon", "stop", "--checkpoint" },
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                _cleanup_(line_clear) struct line line = { 0 };

                assert_int_equal(line_parse((char *const *)lines[i], &line, NULL), 0);
                assert_ptr_equal(line.command, &command_daemon_stop);
                assert_rest(&line, "--checkpoint");
        }
}

static void keeps_what_is_not_the_command(void **state) {
        _cleanup_(line_clear) struct line line = { 0 }, dashes = { 0 };

        (void)state;
        assert_int_equal(line_parse(ARGV("query", "-ti", "process", "1", "process", "--json"), &line, NULL), 0);
        assert_rest(&line, "-ti 1 process --json");
        assert_true(line.json);

        /* What follows -- is positional, whatever it looks like. */
        assert_int_equal(line_parse(ARGV("query", "process", "--", "--json", "-h"), &dashes, NULL), 0);
        assert_rest(&dashes, "-- --json -h");
        assert_false(dashes.json || dashes.help);
}

/* What is behind PATH is the program's, but exact long flags of ours are not. */
static void divides_a_line_from_its_program(void **state) {
        static const struct {
                const char *argv[12];
                const char *expected; /* flags, --, the program */
        } lines[] = {
                { { "run", "process", "sh", "-c", "echo $0; exit 3", "x" }, "-- sh -c echo $0; exit 3 x" },
                { { "exec", "sh", "-c", "x" }, "-- sh -c x" },
                { { "run", "process", "-j", "a", "sleep", "-j", "b" }, "-j a -- sleep -j b" },
                { { "run", "process", "sleep", "9", "--jid", "a", "--attach" }, "--jid a --attach -- sleep 9" },
                { { "run", "process", "sleep", "--jid=a", "9" }, "--jid=a -- sleep 9" },
                { { "run", "process", "ls", "--all", "--jidx", "-la" }, "-- ls --all --jidx -la" },
                { { "run", "process", "python3", "--version" }, "-- python3 --version" },
                { { "run", "process", "git", "--help", "-h" }, "-- git --help -h" },
                { { "run", "process", "ls", "--", "--jid", "a" }, "-- ls --jid a" },
                { { "run", "process", "--", "ls", "--jid", "a" }, "-- ls --jid a" },
                { { "run", "process", "--", "git", "checkout", "--", "x" }, "-- git checkout -- x" },
                { { "--no-server", "run", "--init", "process", "ls", "--as-root" },
                  "--no-server --init --as-root -- ls" },
                { { "run", "process", "cat", "-" }, "-- cat -" },
                { { "run", "process", "run", "process" }, "-- run process" },
                { { "run", "process", "ls", "--jid" }, "--jid" }, /* which is then told to need a value */
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                _cleanup_(line_clear) struct line line = { 0 };

                assert_int_equal(line_parse((char *const *)lines[i].argv, &line, NULL), 0);
                assert_rest(&line, lines[i].expected);
                assert_false(line.help || line.version);
        }

        _cleanup_(line_clear) struct line json = { 0 }, other = { 0 };
        assert_int_equal(line_parse(ARGV("run", "process", "ls", "--json", "--config-dir", "/c"), &json, NULL), 0);
        assert_true(json.json);
        assert_string_equal(json.config_dir, "/c");
        /* Other commands have flags anywhere. */
        assert_int_equal(line_parse(ARGV("kill", "a", "-s", "TERM", "b"), &other, NULL), 0);
        assert_ptr_equal(other.command, &command_job_kill);
        assert_rest(&other, "a -s TERM b");
}

static void notes_what_matters_first(void **state) {
        _cleanup_(line_clear) struct line line = { 0 };

        (void)state;
        assert_int_equal(line_parse(ARGV("--config-dir", "/c", "config", "--no-color", "show", "--config={}", "-hv"),
                                    &line, NULL),
                         0);
        assert_ptr_equal(line.command, &command_config_show);
        assert_string_equal(line.config_dir, "/c");
        assert_string_equal(line.config, "{}");
        assert_true(line.help && line.version && line.no_colour);
        assert_false(line.json);
}

static void a_value_is_no_flag(void **state) {
        _cleanup_(line_clear) struct line line = { 0 }, off = { 0 };

        (void)state;
        assert_int_equal(line_parse(ARGV("dump", "process", "--name", "--json", "42"), &line, NULL), 0);
        assert_false(line.json);
        assert_int_equal(line_parse(ARGV("version", "--json=false"), &off, NULL), 0);
        assert_false(off.json);
}

static void tells_what_is_unknown(void **state) {
        _cleanup_(line_clear) struct line line = { 0 };

        (void)state;
        assert_error(ARGV("dumb"), "unknown command 'dumb' (hint: did you mean 'stasis dump'?)");
        assert_error(ARGV("feature"), "did you mean 'stasis features'?");
        assert_error(ARGV("job", "lst"), "did you mean 'stasis job list'?");
        assert_error(ARGV("daemon", "strat"),
                     "unknown command 'daemon strat' (hint: did you mean 'stasis daemon start'?)");
        assert_error(ARGV("dump", "proces", "42"), "dump: unknown type 'proces' (hint: did you mean 'process'?)");
        assert_error(ARGV("restore", "xyzzy-xyzzy"), "stasis restore --help");
        assert_error(ARGV("xyzzy-xyzzy-xyzzy"), "see 'stasis --help'");

        /* A plugin may know it, and --json counts although it comes later. */
        assert_int_equal(line_parse(ARGV("dump", "runc", "web", "--json"), &line, NULL), -EINVAL);
        assert_true(line.unresolved);
        assert_true(line.json);
        assert_ptr_equal(line.command, &command_dump);
}

static void words_may_be_missing(void **state) {
        _cleanup_(line_clear) struct line nothing = { 0 }, verb = { 0 };

        (void)state;
        assert_int_equal(line_parse(ARGV(), &nothing, NULL), 0);
        assert_null(nothing.command);
        assert_int_equal(line_parse(ARGV("dump", "--stop"), &verb, NULL), 0);
        assert_ptr_equal(verb.command, &command_dump);
        assert_null(verb.type);
}

/* Help as text; malloc'ed. */
static char *help_of(const struct command *command, const struct st_command *type) {
        char *text = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        help_print(f, command, type);
        fclose(f);
        return text;
}

static void assert_helpful(const char *help, const char *path) {
        const char *example = strstr(help, "Example:\n  stasis ");

        assert_non_null(strstr(help, "Usage: stasis"));
        if (!example || !strstr(example, path))
                fail_msg("no example of %s in: %s", path, help);
        assert_non_null(strstr(help, "--address"));
        assert_non_null(strstr(help, "--help"));
}

static void help_has_an_example(void **state) {
        _cleanup_free_ char *root = help_of(NULL, NULL);

        (void)state;
        assert_helpful(root, "dump");
        assert_non_null(strstr(root, "Exit codes:"));
        for (size_t i = 0; commands[i]; i++) {
                const struct command *command = commands[i];
                _cleanup_free_ char *help = help_of(command, NULL);

                assert_helpful(help, command->path);
                if (command->run && !command->hidden && !strchr(command->path, ' '))
                        assert_non_null(strstr(root, command->path));
                for (size_t t = 0; command->types && command->types[t]; t++) {
                        _cleanup_free_ char *of_type = help_of(command, command->types[t]);
                        _cleanup_free_ char *path = xasprintf("%s %s", command->path, command->types[t]->type);

                        assert_helpful(of_type, path);
                        assert_non_null(strstr(of_type, command->types[t]->summary));
                }
        }
}

/* Two rows of one command with the same flag: the second one could never be reached. */
static void flags_are_unique(void **state) {
        (void)state;
        for (size_t i = 0; commands[i]; i++) {
                _cleanup_(option_tables_clear) struct option_tables tables = { 0 };
                const struct line line = { .command = commands[i] };
                _cleanup_strv_ struct strv seen = { 0 };

                line_tables(&line, &tables);
                for (size_t t = 0; t < tables.n; t++)
                        for (const struct st_option *row = tables.tables[t]; row->flag; row++) {
                                const char letter[] = { row->letter, 0 };

                                assert_false(strv_has(&seen, row->flag));
                                strv_add(&seen, row->flag);
                                assert_non_null(row->help);
                                if (!row->letter)
                                        continue;
                                assert_false(strv_has(&seen, letter));
                                strv_add(&seen, letter);
                        }
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(finds_every_command),
                cmocka_unit_test(finds_aliases),
                cmocka_unit_test(skips_flags_and_their_values),
                cmocka_unit_test(bare_flags_leave_the_next_word),
                cmocka_unit_test(keeps_what_is_not_the_command),
                cmocka_unit_test(notes_what_matters_first),
                cmocka_unit_test(divides_a_line_from_its_program),
                cmocka_unit_test(a_value_is_no_flag),
                cmocka_unit_test(tells_what_is_unknown),
                cmocka_unit_test(words_may_be_missing),
                cmocka_unit_test(help_has_an_example),
                cmocka_unit_test(flags_are_unique),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
