/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/config.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/line.h"
#include "cli/output.h"
#include "cli/version.h"
#include "engine/engine.h"
#include "engine/settings.h"

/* The configuration as the line and its surroundings say; --flags of it are not parsed yet. */
static int load_config(const struct line *line, const struct option_tables *tables, struct st_arguments **ret,
                       struct st_error **err) {
        _cleanup_(arguments_freep) struct st_arguments *config = NULL;
        int r;

        r = settings_load(tables, line->config_dir, &config, err);
        if (r < 0)
                return r;
        if (line->config) {
                r = arguments_load_json(config, line->config, ORIGIN_FLAG, "--config", err);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(config);
        return 0;
}

static void set_log_level(const struct st_arguments *config) {
        enum st_log_level level = ST_LOG_WARNING;

        (void)logger_level_from_text(st_arguments_string(config, "LogLevelNoServer"), &level);
        logger_set_level(level);
}

static void load_plugins(const struct st_arguments *config) {
        set_log_level(config);
        engine_load_plugins(config);
}

int cli_find_command(char *const *argv, struct line *line, struct st_error **err) {
        _cleanup_(arguments_freep) struct st_arguments *config = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        int r;

        r = line_parse(argv, line, &error);
        if (r >= 0 || !line->unresolved)
                return r < 0 ? st_error_move(err, TAKE_PTR(error)) : r;

        r = load_config(line, NULL, &config, err);
        if (r < 0)
                return r;
        load_plugins(config);
        line_clear(line);
        return line_parse(argv, line, err);
}

void cli_load_types(const struct line *line) {
        _cleanup_(arguments_freep) struct st_arguments *config = NULL;

        if (line->command && line->command->types && !line->type && load_config(line, NULL, &config, NULL) >= 0)
                load_plugins(config);
}

void cli_show_help(const struct line *line) {
        cli_load_types(line);
        help_print(stdout, line->command, line->type);
}

/* Flags and positional arguments as the command knows them. */
static int parse_flags(const struct line *line, struct st_arguments **ret, struct st_error **err) {
        _cleanup_(option_tables_clear) struct option_tables tables = { 0 };
        _cleanup_(arguments_freep) struct st_arguments *flags = NULL;
        int r;

        line_tables(line, &tables);
        flags = arguments_new(&tables);
        r = arguments_parse(flags, line_arguments(line), SIZE_MAX, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(flags);
        return 0;
}

/* As parse_flags(), over the configuration. */
int cli_load_arguments(const struct line *line, struct st_arguments **ret, struct st_error **err) {
        _cleanup_(option_tables_clear) struct option_tables tables = { 0 };
        _cleanup_(arguments_freep) struct st_arguments *all = NULL;
        int r;

        line_tables(line, &tables);
        r = load_config(line, &tables, &all, err);
        if (r < 0)
                return r;
        r = arguments_parse(all, line_arguments(line), SIZE_MAX, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(all);
        return 0;
}

static int check_words(const struct command *command, const struct st_arguments *arguments, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);
        size_t n = 0;

        while (words[n])
                n++;
        if (command->types || command == &command_helper || (n >= command->min_words && n <= command->max_words))
                return 0;
        if (n < command->min_words)
                st_error_set(err, EINVAL, "%s: %s is missing", command->path, command->words ?: "an argument");
        else
                st_error_set(err, EINVAL, "%s: unexpected argument '%s'", command->path, words[command->max_words]);
        st_error_hint(err, "see 'stasis %s --help'", command->path);
        return -EINVAL;
}

/* `stasis dump` and `stasis daemon`: words are missing. */
static int incomplete(const struct line *line, struct st_error **err) {
        const struct command *command = line->command;

        if (!command)
                st_error_set(err, EINVAL, "no command");
        else
                st_error_set(err, EINVAL, "%s: %s is missing", command->path,
                             command->types ? "the type" : "the command");
        st_error_hint(err, "see 'stasis %s%s--help'", command ? command->path : "", command ? " " : "");
        return -EINVAL;
}

static int run_command(struct cli *cli, const struct line *line, struct st_error **err) {
        _cleanup_(arguments_freep) struct st_arguments *flags = NULL;
        bool write_config;
        int r;

        r = parse_flags(line, &flags, err);
        if (r < 0)
                return r;
        write_config = st_arguments_bool(flags, "init-config") || st_arguments_bool(flags, "merge-config");
        if (!line->command ? !write_config : !line->command->run || (line->command->types && !line->type))
                return incomplete(line, err);

        if (line->command) {
                r = check_words(line->command, flags, err);
                if (r < 0)
                        return r;
        }
        if (write_config || line->command->config) {
                r = cli_load_arguments(line, &cli->arguments, err);
                if (r < 0)
                        return r;
                set_log_level(cli->arguments);
        } else {
                cli->arguments = TAKE_PTR(flags);
        }
        if (write_config) {
                r = config_write(cli->arguments, line->config_dir, err);
                if (r < 0 || !line->command)
                        return r;
        }
        return line->command->run(cli, err);
}

static int dispatch(struct cli *cli, char *const *argv, struct line *line, struct st_error **err) {
        int r;

        r = cli_find_command(argv, line, err);
        cli->json = line->json;
        cli->command = line->command;
        cli->type = line->type;
        if (line->no_colour)
                logger_set_colour(false);
        if (r < 0)
                return r;
        if (line->help) {
                cli_show_help(line);
                return EXIT_OK;
        }
        if (line->version) {
                version_print(line->json);
                return EXIT_OK;
        }
        return run_command(cli, line, err);
}

/* Data that did not arrive is a failure, whatever the command says. */
static int flush_output(int code, int number) {
        int r = output_flush();

        if (r >= 0)
                return code;
        if (number < 0)
                r = number; /* of the write that failed first */
        if (r == -EPIPE)
                return EXIT_PIPE;
        st_log_error("cannot write the output: %s", strerror(-r));
        return code == EXIT_OK ? EXIT_FAILED : code;
}

/* Tables have characters beyond ASCII; a machine without a locale is no reason to show them as numbers. */
static void set_locale(void) {
        const char *locale = setlocale(LC_CTYPE, "");

        if (!locale || streq(locale, "C") || streq(locale, "POSIX"))
                (void)setlocale(LC_CTYPE, "C.UTF-8");
}

/* Nothing that we open may become 0, 1 or 2. */
static void fill_stdio(void) {
        for (;;) {
                int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

                if (fd < 0 || fd > STDERR_FILENO) {
                        if (fd >= 0)
                                close(fd);
                        return;
                }
                (void)io_set_cloexec(fd, false);
        }
}

int cli_main(int argc, char **argv) {
        _cleanup_error_ struct st_error *err = NULL;
        _cleanup_(line_clear) struct line line = { 0 };
        struct cli cli = { .failure = EXIT_USAGE };
        static char *nothing[] = { NULL };
        int unwritten = 0;

        fill_stdio();
        signal(SIGPIPE, SIG_IGN);
        set_locale();

        int r = dispatch(&cli, argc > 0 ? argv + 1 : nothing, &line, &err);
        if (r < 0) {
                if (!err)
                        st_error_errno(&err, r, "failed");
                bool interrupted = r == -ECANCELED && interrupt_count() > 0;
                if (ferror(stdout))
                        unwritten = r; /* said once, when it is flushed */
                else
                        output_error(err, interrupted, cli.json);
                r = interrupted ? EXIT_INTERRUPTED : cli.failure;
        }
        arguments_free(cli.arguments);
        return flush_output(r, unwritten);
}
