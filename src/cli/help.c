/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis help [COMMAND]` and --help: everything in it comes from the tables of commands and options. */

#include "cli/help.h"

#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/line.h"
#include "engine/settings.h"

#define WIDTH_DEFAULT 100
#define WIDTH_LEAST 60
#define WIDTH_MOST 120

static int width_of(FILE *f) {
        struct winsize size;

        if (ioctl(fileno(f), TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
                return WIDTH_DEFAULT;
        if (size.ws_col < WIDTH_LEAST)
                return WIDTH_LEAST;
        return size.ws_col > WIDTH_MOST ? WIDTH_MOST : size.ws_col;
}

/* A list of names with what they are, aligned. Printed in two passes over the same items. */
struct list {
        FILE *f;
        int column; /* width of the names, found by the first pass */
        bool print;
};

/* Columns of a text: characters, that is bytes which do not continue one. */
static int columns(const char *s) {
        int n = 0;

        for (; s && *s; s++)
                n += ((unsigned char)*s & 0xc0) != 0x80;
        return n;
}

static void list_item(struct list *list, const char *name, const char *words, const char *summary) {
        int n = columns(name) + (words ? 1 + columns(words) : 0);

        if (!list->print) {
                if (n > list->column)
                        list->column = n;
                return;
        }
        fprintf(list->f, "  %s%s%s%*s  %s\n", name, words ? " " : "", words ?: "", list->column - n, "", summary ?: "");
}

static void list_type(const struct st_command *type, void *userdata) {
        list_item(userdata, type->type, type->words, type->summary);
}

static bool has_parent_in(const struct command *command, const struct command *parent) {
        for (size_t i = 0; commands[i]; i++)
                if (commands[i] != parent && command_is_below(commands[i], parent) &&
                    command_is_below(command, commands[i]))
                        return true;
        return false;
}

/* "Lists all jobs (also: ps, jobs)"; malloc'ed */
static char *summary_with_aliases(const struct command *command) {
        _cleanup_strv_ struct strv aliases = { 0 };

        if (!command->alias)
                return xstrdup(command->summary);
        strv_split(&aliases, command->alias, '|');
        _cleanup_free_ char *list = strv_join(&aliases, ", ");
        return xasprintf("%s (also: %s)", command->summary, list);
}

static void list_children(FILE *f, const struct command *parent) {
        struct list list = { .f = f };

        for (int pass = 0; pass < 2; pass++) {
                list.print = pass == 1;
                for (size_t i = 0; commands[i]; i++) {
                        const struct command *command = commands[i];

                        if (command->hidden || !command_is_below(command, parent) ||
                            (command->run == NULL && !command->types))
                                continue;
                        _cleanup_free_ char *summary = summary_with_aliases(command);
                        list_item(&list,
                                  has_parent_in(command, parent) || !parent ? command->path : command_name(command),
                                  command->types ? "TYPE …" : command->words, summary);
                }
        }
}

static void list_types(FILE *f, const struct command *verb) {
        struct list list = { .f = f };

        command_each_type(verb, list_type, &list);
        list.print = true;
        command_each_type(verb, list_type, &list);
}

static void print_examples(FILE *f, const char *examples) {
        if (isempty(examples))
                return;
        fputs("\nExample:\n", f);
        while (*examples) {
                size_t n = strcspn(examples, "\n");

                fprintf(f, "  stasis %.*s\n", (int)n, examples);
                examples += n + (examples[n] == '\n');
        }
}

/* Several tables as one, so that their columns are the same. */
static void print_flags(FILE *f, const char *title, const struct option_tables *tables) {
        _cleanup_free_ struct st_option *rows = NULL;
        size_t n = 0, room = 0;

        for (size_t t = 0; t < tables->n; t++)
                for (const struct st_option *row = tables->tables[t]; row->flag || row->key; row++)
                        if (row->flag) {
                                GROW(rows, n, room);
                                rows[n++] = *row;
                        }
        if (n == 0)
                return;
        GROW(rows, n, room);
        rows[n] = (struct st_option)ST_OPTION_END;
        fprintf(f, "\n%s:\n", title);
        options_print_help(f, rows, width_of(f));
}

static void print_globals(FILE *f) {
        print_flags(f, "Flags of every command",
                    &(struct option_tables){ .tables = (const struct st_option *[]){ settings_global, global_options },
                                             .n = 2 });
}

static void print_root(FILE *f) {
        fputs("stasis checkpoints running processes and restores them.\n\n"
              "Usage: stasis COMMAND [FLAG…]\n\nCommands:\n",
              f);
        list_children(f, NULL);
        print_globals(f);
        fprintf(f,
                "\nExit codes:\n"
                "  %-5dsuccess\n"
                "  %-5dfailure; 'check': something is wrong; 'daemon status': no daemon runs\n"
                "  %-5dwrong command line or configuration: nothing was tried\n"
                "  %-5dcancelled by a signal\n"
                "  %-5dnobody reads the output\n"
                "  '--attach', 'attach', 'run --no-server' and 'restore --no-server' end with the code of the job or\n"
                "  process (128+N for signal N)\n",
                EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_PIPE);
        print_examples(f, "dump process 42 --dir /var/backups\ndump --help");
}

static void print_usage_line(FILE *f, const struct command *command, const struct st_command *type) {
        fprintf(f, "Usage: stasis %s", command->path);
        if (type)
                fprintf(f, "%s%s%s%s", *command->path ? " " : "", type->type, type->words ? " " : "",
                        type->words ?: "");
        else if (command->types)
                fputs(" TYPE …", f);
        else if (!command->run)
                fputs(" COMMAND", f);
        else if (command->words)
                fprintf(f, " %s", command->words);
        fputs(" [FLAG…]\n", f);
        for (const char *at = command->alias;;) {
                _cleanup_free_ char *alias = command_next_alias(&at);

                if (!alias)
                        break;
                fprintf(f, "       stasis %s%s%s [FLAG…]\n", alias, command->words ? " " : "", command->words ?: "");
        }
}

/* The flags of a type are told from those of its verb: other types do not have them. */
static void print_own_flags(FILE *f, const struct command *command, const struct st_command *type) {
        _cleanup_(option_tables_clear) struct option_tables tables = { 0 };

        if (type && type->options) {
                _cleanup_free_ char *title =
                        xasprintf("Flags of %s%s%s", command->path, *command->path ? " " : "", type->type);
                print_flags(f, title,
                            &(struct option_tables){ .tables = (const struct st_option *[]){ type->options }, .n = 1 });
        }
        for (size_t i = 0; command->options && command->options[i]; i++)
                option_tables_add(&tables, command->options[i]);
        if (tables.n > 0) {
                _cleanup_free_ char *title = xasprintf("Flags of %s", command->path);
                print_flags(f, title, &tables);
        }
}

void help_print(FILE *f, const struct command *command, const struct st_command *type) {
        if (!command) {
                print_root(f);
                return;
        }

        const char *summary = type ? type->summary : command->summary;

        print_usage_line(f, command, type);
        if (!isempty(summary))
                fprintf(f, "\n%s.\n", summary);
        if (!type && command->types) {
                fputs("\nTypes:\n", f);
                list_types(f, command);
        } else if (!command->run) {
                fputs("\nCommands:\n", f);
                list_children(f, command);
        }
        print_own_flags(f, command, type);
        print_globals(f);
        print_examples(f, type ? type->example : command->examples);
}

static int run_help(struct cli *cli, struct st_error **err) {
        _cleanup_(line_clear) struct line line = { 0 };
        int r;

        /* `help plugin list` asks for the same as `plugin list --help`. */
        r = cli_find_command((char *const *)st_arguments_words(cli->arguments), &line, err);
        if (r < 0)
                return r;
        cli_show_help(&line);
        return EXIT_OK;
}

const struct command command_help = {
        .path = "help",
        .words = "[COMMAND…]",
        .max_words = SIZE_MAX,
        .summary = "Prints the help of a command",
        .examples = "help dump process",
        .run = run_help,
};
