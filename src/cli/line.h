/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The first look at the command line: which command is meant. Flags may stand before, between and after the command's
 * words, so the words are found by skipping flags, and the values of those that take one. What is right and wrong about
 * the flags is found out later, by arguments_parse() on what is left.
 *
 * Where the words are another program's command line (`run process PATH [ARG…]`), what follows PATH is that program's:
 * but exact long flags of the command are still ours, unless -- came before.
 */

#include <stdbool.h>

#include <stasis/error.h>

#include "base/options.h"
#include "base/text.h"
#include "cli/command.h"

/** Zero-initialise; free with line_clear(). */
struct line {
        const struct command *command; /* NULL: no command was given */
        const struct st_command *type; /* of a verb with types; NULL: none was given */
        struct strv arguments;         /* the flags and positional arguments, without the words of the command */
        const char *config_dir;        /* what matters before flags are parsed; parts of argv */
        const char *config;
        bool json, help, version, no_colour;
        bool unresolved; /* a word was not known: it may be a plugin's, if none are loaded yet */
};

/**
 * @param argv without the name of the program
 * @return 0, or -EINVAL with err for a word that is no command; the line is filled as far as possible then too
 */
int line_parse(char *const *argv, struct line *line, struct st_error **err);

void line_clear(struct line *line);

/** Finds a flag as it was typed ("--dir", "--dir=x", "-d") among those that the command may have; NULL: none. */
const struct st_option *line_find_flag(const struct line *line, const char *flag);

/** @return the flags and positional arguments, NULL-terminated, never NULL */
char *const *line_arguments(const struct line *line);

/** Appends the tables of the flags that the line's command has; the globals come last. */
void line_tables(const struct line *line, struct option_tables *tables);
