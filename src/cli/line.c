/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/line.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "engine/settings.h"

/* A flag as it is looked for: a long name of n bytes, or a letter. */
struct wanted {
        const char *name;
        size_t n;
        char letter;
        const struct st_option *found;
};

static void look_into(struct wanted *wanted, const struct st_option *rows) {
        for (; rows && !wanted->found && (rows->flag || rows->key); rows++) {
                if (!rows->flag)
                        continue;
                if (wanted->name ? strlen(rows->flag) == wanted->n && strncmp(rows->flag, wanted->name, wanted->n) == 0
                                 : rows->letter && rows->letter == wanted->letter)
                        wanted->found = rows;
        }
}

static void look_into_type(const struct st_command *type, void *userdata) {
        look_into(userdata, type->options);
}

static void look_into_helper(const struct st_helper *helper, void *userdata) {
        look_into(userdata, helper->command.options);
}

static void look_into_command(struct wanted *wanted, const struct command *command) {
        for (size_t i = 0; command->options && command->options[i]; i++)
                look_into(wanted, command->options[i]);
}

/* Until the command is known, a flag may be one of any command that can still be meant. */
static const struct st_option *find_flag(const struct line *line, const char *name, size_t n, char letter) {
        struct wanted wanted = { .name = name, .n = n, .letter = letter };

        if (line->type)
                look_into(&wanted, line->type->options);
        else if (line->command)
                command_each_type(line->command, look_into_type, &wanted);
        if (line->command)
                look_into_command(&wanted, line->command);
        look_into(&wanted, global_options);
        look_into(&wanted, settings_global);
        for (size_t i = 0; commands[i] && !wanted.found; i++)
                if (command_is_below(commands[i], line->command)) {
                        look_into_command(&wanted, commands[i]);
                        command_each_type(commands[i], look_into_type, &wanted);
                }
        if (!line->command)
                command_each_helper(look_into_helper, &wanted);
        return wanted.found;
}

const struct st_option *line_find_flag(const struct line *line, const char *flag) {
        if (flag[0] != '-' || !flag[1])
                return NULL;
        if (flag[1] != '-')
                return find_flag(line, NULL, 0, flag[strlen(flag) - 1]);
        return find_flag(line, flag + 2, strcspn(flag + 2, "="), 0);
}

static bool is_row(const struct st_option *row, const char *flag) {
        return row->flag && streq(row->flag, flag);
}

static bool is_global(const struct st_option *row) {
        for (const struct st_option *global = global_options; global->flag; global++)
                if (row == global)
                        return true;
        return false;
}

/* Some flags decide what happens before, or instead of, parsing all of them. value NULL: a BOOL without one */
static void note_flag(struct line *line, const struct st_option *row, const char *value) {
        bool on = true;

        if (!is_global(row))
                return;
        if (is_row(row, "config-dir"))
                line->config_dir = value;
        else if (is_row(row, "config"))
                line->config = value;
        if (row->type != ST_OPTION_BOOL || (value && text_to_bool(value, &on) < 0))
                return;
        if (is_row(row, "json"))
                line->json = on;
        else if (is_row(row, "help"))
                line->help = on;
        else if (is_row(row, "version"))
                line->version = on;
        else if (is_row(row, "no-color"))
                line->no_colour = on;
}

/* @return does the flag's value come as the next argument? */
static bool take_long(struct line *line, const char *flag, const char *next) {
        const char *name = flag + 2, *equals = strchr(name, '=');
        const struct st_option *row = find_flag(line, name, equals ? (size_t)(equals - name) : strlen(name), 0);
        bool takes_next = row && !equals && option_takes_next(row);

        if (row)
                note_flag(line, row, equals ? equals + 1 : takes_next ? next : NULL);
        return takes_next;
}

static bool take_letters(struct line *line, const char *flag, const char *next) {
        for (const char *letter = flag + 1; *letter; letter++) {
                const struct st_option *row = find_flag(line, NULL, 0, *letter);

                if (row && row->type == ST_OPTION_BOOL) {
                        note_flag(line, row, NULL);
                } else if (row) {
                        bool takes_next = !letter[1] && option_takes_next(row);

                        note_flag(line, row, letter[1] ? letter + 1 : takes_next ? next : row->bare);
                        return takes_next;
                }
        }
        return false;
}

static void offer_type(const struct st_command *type, void *userdata) {
        nearest_offer(userdata, type->type);
}

static void offer_helper(const struct st_helper *helper, void *userdata) {
        nearest_offer(userdata, helper->command.type);
}

static int unknown_type(struct line *line, const char *word, struct st_error **err) {
        struct nearest nearest = { .wanted = word };

        line->unresolved = true;
        command_each_type(line->command, offer_type, &nearest);
        st_error_set(err, EINVAL, "%s: unknown type '%s'", line->command->path, word);
        if (nearest.best)
                st_error_hint(err, "did you mean '%s'?", nearest.best);
        else
                st_error_hint(err, "see 'stasis %s --help' for the types, 'stasis plugin list' for the plugins",
                              line->command->path);
        return -EINVAL;
}

static void offer_aliases(struct strv *aliases, struct nearest *nearest) {
        for (size_t i = 0; commands[i]; i++) {
                const char *at = commands[i]->alias;
                char *alias;

                while ((alias = command_next_alias(&at)))
                        strv_take(aliases, alias);
        }
        for (size_t i = 0; i < aliases->n; i++)
                nearest_offer(nearest, aliases->items[i]);
}

static int unknown_command(struct line *line, const char *word, struct st_error **err) {
        const char *parent = line->command ? line->command->path : NULL;
        _cleanup_strv_ struct strv aliases = { 0 }; /* nearest.best may be one of them */
        struct nearest nearest = { .wanted = word };

        line->unresolved = !parent;
        for (size_t i = 0; commands[i]; i++) {
                if (!command_is_below(commands[i], line->command) || (!parent && strchr(commands[i]->path, ' ')))
                        continue;
                nearest_offer(&nearest, command_name(commands[i]));
        }
        if (!parent) {
                offer_aliases(&aliases, &nearest);
                command_each_helper(offer_helper, &nearest);
        }

        st_error_set(err, EINVAL, "unknown command '%s%s%s'", parent ?: "", parent ? " " : "", word);
        if (nearest.best)
                st_error_hint(err, "did you mean 'stasis %s%s%s'?", parent ?: "", parent ? " " : "", nearest.best);
        else
                st_error_hint(err, "see 'stasis %s%s--help'", parent ?: "", parent ? " " : "");
        return -EINVAL;
}

struct find_helper {
        const char *name;
        const struct st_helper *found;
};

static void match_helper(const struct st_helper *helper, void *userdata) {
        struct find_helper *find = userdata;

        if (!find->found && streq(helper->command.type, find->name))
                find->found = helper;
}

/* @return 1: the word belongs to the command; 0: it is a positional argument */
static int take_word(struct line *line, const char *word, struct st_error **err) {
        const struct command *command = line->command;

        if (line->type || (command && command->run && !command->types))
                return 0;
        if (command && command->types) {
                line->type = command_find_type(command, word);
                return line->type ? 1 : unknown_type(line, word, err);
        }

        _cleanup_free_ char *path = command ? xasprintf("%s %s", command->path, word) : xstrdup(word);
        const struct command *found = command_find(path);
        if (!found && !command) {
                struct find_helper find = { .name = word };

                command_each_helper(match_helper, &find);
                if (find.found) {
                        found = &command_helper;
                        line->type = &find.found->command;
                }
        }
        if (!found)
                return unknown_command(line, word, err);
        line->command = found;
        return 1;
}

/*
 * `run process PATH …`: what follows PATH is the program's, but exact long flags of ours. Short ones would be taken
 * from nearly every program, and so would --help and --version.
 */
static bool is_of_program(const struct line *line, const char *word) {
        const struct st_option *row;

        if (word[0] != '-' || word[1] != '-')
                return true;
        row = find_flag(line, word + 2, strcspn(word + 2, "="), 0);
        return !row || (is_global(row) && (is_row(row, "help") || is_row(row, "version")));
}

static bool takes_program(const struct line *line) {
        return command_takes_program(line->type ? line->type->words : line->command ? line->command->words : NULL);
}

/* The program of the line and what follows it, up to the end. Flags of ours are put before it. */
static void take_program(struct line *line, char *const *argv) {
        _cleanup_strv_ struct strv words = { 0 };
        bool complete = true, flags = true;

        for (size_t i = 0; argv[i]; i++) {
                if (flags && streq(argv[i], "--")) {
                        flags = false;
                } else if (!flags || is_of_program(line, argv[i])) {
                        strv_add(&words, argv[i]);
                } else {
                        bool with_next = take_long(line, argv[i], argv[i + 1]);

                        strv_add(&line->arguments, argv[i]);
                        complete = !with_next || argv[i + 1];
                        if (with_next && argv[i + 1])
                                strv_add(&line->arguments, argv[++i]);
                }
        }
        if (!complete) /* the last flag needs a value: that is told when it stands at the end */
                return;
        strv_add(&line->arguments, "--");
        for (size_t i = 0; i < words.n; i++)
                strv_add(&line->arguments, words.items[i]);
}

int line_parse(char *const *argv, struct line *line, struct st_error **err) {
        int result = 0;

        for (size_t i = 0; argv[i]; i++) {
                const char *word = argv[i];
                bool with_next = false;

                if (streq(word, "--")) {
                        for (; argv[i]; i++)
                                strv_add(&line->arguments, argv[i]);
                        break;
                }
                if (word[0] == '-' && word[1]) {
                        with_next = word[1] == '-' ? take_long(line, word, argv[i + 1])
                                                   : take_letters(line, word, argv[i + 1]);
                } else if (result == 0) {
                        int r = take_word(line, word, err);
                        if (r > 0)
                                continue;
                        if (r == 0 && takes_program(line)) {
                                take_program(line, argv + i);
                                break;
                        }
                        result = r; /* go on: --json and --help count wherever they stand */
                }
                strv_add(&line->arguments, word);
                if (with_next && argv[i + 1])
                        strv_add(&line->arguments, argv[++i]);
        }
        return result;
}

void line_clear(struct line *line) {
        strv_clear(&line->arguments);
        *line = (struct line){ 0 };
}

char *const *line_arguments(const struct line *line) {
        static char *const nothing[] = { NULL };

        return line->arguments.items ? line->arguments.items : nothing;
}

void line_tables(const struct line *line, struct option_tables *tables) {
        if (line->type && line->type->options)
                option_tables_add(tables, line->type->options);
        for (size_t i = 0; line->command && line->command->options && line->command->options[i]; i++)
                option_tables_add(tables, line->command->options[i]);
        option_tables_add(tables, global_options);
        option_tables_add(tables, settings_global);
}
