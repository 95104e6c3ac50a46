/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `stasis __manual DIR TEXTS`: the manual pages, man(7), made when stasis is built. Names, flags, defaults and config
 * keys come from the tables; TEXTS/COMMAND.roff holds what there is to explain beyond them.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/path.h"
#include "base/text.h"
#include "base/version.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "engine/settings.h"

#define TEXT_MAX (1u << 20)

struct manual {
        const char *directory, *texts;
};

/** Writes text as it is: nothing of it is a request of roff. */
static void put_text(FILE *f, const char *text) {
        bool begins = true;

        for (; text && *text; text++) {
                if (begins && (*text == '.' || *text == '\''))
                        fputs("\\&", f);
                begins = *text == '\n';
                if (*text == '-')
                        fputs("\\-", f);
                else if (*text == '\\')
                        fputs("\\e", f);
                else
                        fputc(*text, f);
        }
}

static void put_option(FILE *f, const struct st_option *row) {
        fputs(".TP\n", f);
        if (row->letter)
                fprintf(f, "\\fB\\-%c\\fR, ", row->letter);
        fputs("\\fB\\-\\-", f);
        put_text(f, row->flag);
        fputs("\\fR", f);
        if (row->type == ST_OPTION_BOOL && row->value_name)
                fprintf(f, "[=\\fI%s\\fR]", row->value_name);
        else if (row->bare)
                fprintf(f, "[=\\fI%s\\fR]", row->value_name ?: "VALUE");
        else if (row->type != ST_OPTION_BOOL)
                fprintf(f, " \\fI%s\\fR%s", row->value_name ?: "VALUE", row->type == ST_OPTION_LIST ? " …" : "");
        fputc('\n', f);
}

/** The sentence of help, and what else the row says. */
static void put_meaning(FILE *f, const struct st_option *row) {
        put_text(f, row->help);
        fputs(".\n", f);
        if (row->choices) {
                _cleanup_strv_ struct strv choices = { 0 };

                strv_split(&choices, row->choices, '|');
                _cleanup_free_ char *list = strv_join(&choices, ", ");
                fputs("One of: ", f);
                put_text(f, list);
                fputs(".\n", f);
        }
        if (!isempty(row->fallback)) {
                fputs("Default: ", f);
                put_text(f, row->fallback);
                fputs(".\n", f);
        }
        if (row->flag && row->key) {
                _cleanup_free_ char *variable = option_variable(row->key);
                fprintf(f, "Also by the key \\fB%s\\fR or the variable \\fB%s\\fR.\n", row->key, variable);
        }
}

static void put_options(FILE *f, const struct st_option *rows) {
        for (; rows && (rows->flag || rows->key); rows++)
                if (rows->flag) {
                        put_option(f, rows);
                        put_meaning(f, rows);
                }
}

static void put_examples(FILE *f, const char *examples) {
        if (isempty(examples))
                return;
        fputs(".SH EXAMPLES\n.nf\n", f);
        while (*examples) {
                _cleanup_free_ char *line = xstrndup(examples, strcspn(examples, "\n"));

                fputs("stasis ", f);
                put_text(f, line);
                fputc('\n', f);
                examples += strlen(line);
                examples += *examples == '\n';
        }
        fputs(".fi\n", f);
}

/** TEXTS/NAME.roff, if there is one. */
static int put_prose(const struct manual *manual, FILE *f, const char *name, struct st_error **err) {
        _cleanup_free_ char *path = xasprintf("%s/%s.roff", manual->texts, name), *text = NULL;
        int r = io_read_file(AT_FDCWD, path, TEXT_MAX, &text, NULL);

        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return st_error_errno(err, r, "cannot read %s", path);
        /* The licence's line is for readers of the source. */
        fputs(text[0] == '.' && text[1] == '\\' ? text + strcspn(text, "\n") + 1 : text, f);
        return 0;
}

static void put_type(const struct st_command *type, void *userdata) {
        FILE *f = userdata;

        fprintf(f, ".SS %s%s%s\n", type->type, type->words ? " " : "", type->words ?: "");
        put_text(f, type->summary);
        fputs(".\n", f);
        put_options(f, type->options);
        if (type->example) {
                fputs(".PP\nExample:\n.B stasis ", f);
                put_text(f, type->example);
                fputc('\n', f);
        }
}

static void put_children(FILE *f, const struct command *parent) {
        for (size_t i = 0; commands[i]; i++) {
                const struct command *command = commands[i];

                if (command->hidden || !command_is_below(command, parent) || (!command->run && !command->types))
                        continue;
                _cleanup_free_ char *page = xstrdup(command->path);
                for (char *c = page; *c; c++)
                        if (*c == ' ')
                                *c = '-';
                fputs(".TP\n\\fBstasis\\-", f);
                put_text(f, page);
                fputs("\\fR(1)\n", f);
                put_text(f, command->summary);
                fputs(".\n", f);
        }
}

static void put_synopsis(FILE *f, const struct command *command) {
        fputs(".SH SYNOPSIS\n", f);
        fprintf(f, ".B stasis %s\n", command->path);
        if (command->types)
                fputs(".I TYPE …\n", f);
        else if (!command->run)
                fputs(".I COMMAND\n", f);
        else if (command->words)
                fprintf(f, ".I %s\n", command->words);
        fputs("[\\fIFLAG\\fR…]\n", f);
        for (const char *at = command->alias;;) {
                _cleanup_free_ char *alias = command_next_alias(&at);

                if (!alias)
                        break;
                fprintf(f, ".br\n.B stasis %s\n%s%s%s[\\fIFLAG\\fR…]\n", alias, command->words ? ".I " : "",
                        command->words ?: "", command->words ? "\n" : "");
        }
}

static int put_command(const struct manual *manual, FILE *f, const struct command *command, const char *page,
                       struct st_error **err) {
        fprintf(f, ".SH NAME\nstasis\\-");
        put_text(f, page);
        fputs(" \\- ", f);
        put_text(f, command->summary);
        fputc('\n', f);
        put_synopsis(f, command);
        fputs(".SH DESCRIPTION\n", f);
        put_text(f, command->summary);
        fputs(".\n", f);
        int r = put_prose(manual, f, page, err);
        if (r < 0)
                return r;
        if (command->types) {
                fputs(".SH TYPES\nPlugins bring further types; see \\fBstasis\\-plugin\\-list\\fR(1).\n", f);
                for (size_t i = 0; command->types[i]; i++)
                        put_type(command->types[i], f);
        } else if (!command->run) {
                fputs(".SH COMMANDS\n", f);
                put_children(f, command);
        }
        if (command->options) {
                fputs(".SH OPTIONS\n", f);
                for (size_t i = 0; command->options[i]; i++)
                        put_options(f, command->options[i]);
        }
        fputs("The flags of every command are in \\fBstasis\\fR(1).\n", f);
        put_examples(f, command->examples);
        fputs(".SH SEE ALSO\n\\fBstasis\\fR(1), \\fBstasis\\-config\\fR(5)\n", f);
        return 0;
}

static int put_root(const struct manual *manual, FILE *f, struct st_error **err) {
        fputs(".SH NAME\nstasis \\- checkpoints running processes and restores them\n"
              ".SH SYNOPSIS\n.B stasis\n.I COMMAND\n[\\fIFLAG\\fR…]\n.SH DESCRIPTION\n",
              f);
        int r = put_prose(manual, f, "stasis", err);
        fputs(".SH COMMANDS\n", f);
        put_children(f, NULL);
        fputs(".SH FLAGS OF EVERY COMMAND\n", f);
        put_options(f, settings_global);
        put_options(f, global_options);
        fputs(".SH EXIT STATUS\n", f);
        fprintf(f, ".TP\n%d\nsuccess\n.TP\n%d\nfailure; \\fBcheck\\fR: something is wrong\n", EXIT_OK, EXIT_FAILED);
        fprintf(f, ".TP\n%d\nwrong command line or configuration: nothing was tried\n", EXIT_USAGE);
        fprintf(f, ".TP\n%d\ncancelled by a signal\n.TP\n%d\nnobody reads the output\n", EXIT_INTERRUPTED, EXIT_PIPE);
        fputs(".PP\n\\fBrestore \\-\\-no\\-server\\fR ends with the code of the restored process "
              "(128+\\fIN\\fR for signal \\fIN\\fR).\n"
              ".SH SEE ALSO\n\\fBstasis\\-config\\fR(5), \\fBcriu\\fR(8)\n",
              f);
        return r;
}

static int put_config(const struct manual *manual, FILE *f, struct st_error **err) {
        static const struct st_option *const tables[] = { settings_global, settings_dump, settings_daemon,
                                                          settings_keys };

        fputs(".SH NAME\nstasis\\-config \\- configuration of stasis\n.SH DESCRIPTION\n", f);
        int r = put_prose(manual, f, "config", err);
        fputs(".SH KEYS\n", f);
        for (size_t i = 0; i < ELEMENTSOF(tables); i++)
                for (const struct st_option *row = tables[i]; row->flag || row->key; row++) {
                        if (!row->key)
                                continue;
                        _cleanup_free_ char *variable = option_variable(row->key);
                        fprintf(f, ".TP\n\\fB%s\\fR, variable \\fB%s\\fR", row->key, variable);
                        if (row->flag)
                                fprintf(f, ", flag \\fB\\-\\-%s\\fR", row->flag);
                        fputc('\n', f);
                        put_text(f, row->help);
                        fputs(".\n", f);
                        if (row->choices)
                                fprintf(f, "One of: %s.\n", row->choices);
                        if (!isempty(row->fallback)) {
                                fputs("Default: ", f);
                                put_text(f, row->fallback);
                                fputs(".\n", f);
                        }
                }
        fputs(".SH SEE ALSO\n\\fBstasis\\fR(1), \\fBstasis\\-config\\-show\\fR(1)\n", f);
        return r;
}

/** Writes one page. @param command NULL: `name` is "stasis" or "stasis-config" */
static int write_page(const struct manual *manual, const char *name, int section, const struct command *command,
                      struct st_error **err) {
        _cleanup_free_ char *directory = xasprintf("%s/man%d", manual->directory, section);
        _cleanup_free_ char *path = xasprintf("%s/%s.%d", directory, name, section), *page = NULL;
        size_t size;
        int r = io_make_directories(directory, 0755);
        FILE *f;

        if (r < 0)
                return st_error_errno(err, r, "cannot make the directory %s", directory);
        f = open_memstream(&page, &size);
        if (!f)
                return st_error_errno(err, errno, "cannot write %s", path);
        fprintf(f, ".\\\" Made from the tables of commands and options.\n.TH \"%s\" %d \"\" \"stasis %s\" \"stasis\"\n",
                name, section, STASIS_VERSION);
        if (command)
                r = put_command(manual, f, command, name + strlen("stasis-"), err);
        else
                r = section == 5 ? put_config(manual, f, err) : put_root(manual, f, err);
        if (fclose(f) < 0 && r >= 0)
                r = st_error_errno(err, errno, "cannot write %s", path);
        if (r < 0)
                return r;
        r = io_replace_file(path, page, size, 0644, false);
        return r < 0 ? st_error_errno(err, r, "cannot write %s", path) : 0;
}

static int run_manual(struct cli *cli, struct st_error **err) {
        const char *const *words = st_arguments_words(cli->arguments);
        const struct manual manual = { words[0], words[1] };
        int r;

        cli_begin_work(cli);
        r = write_page(&manual, "stasis", 1, NULL, err);
        if (r >= 0)
                r = write_page(&manual, "stasis-config", 5, NULL, err);
        for (size_t i = 0; commands[i] && r >= 0; i++) {
                if (commands[i]->hidden)
                        continue;
                _cleanup_free_ char *name = xasprintf("stasis-%s", commands[i]->path);
                for (char *c = name; *c; c++)
                        if (*c == ' ')
                                *c = '-';
                r = write_page(&manual, name, 1, commands[i], err);
        }
        return r < 0 ? r : EXIT_OK;
}

const struct command command_manual = {
        .path = "__manual",
        .words = "DIR TEXTS",
        .min_words = 2,
        .max_words = 2,
        .summary = "Writes the manual pages",
        .examples = "__manual build/man man",
        .hidden = true,
        .run = run_manual,
};
