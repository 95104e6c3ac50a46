/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One row is the only source of an option: its flag, config key, STASIS_ variable, default and help text.
 * Parsing, --help, completions, man pages and `config show` all read these rows.
 *
 * The variable of a key is STASIS_ and its words joined by _ : Checkpoint.Dir → STASIS_CHECKPOINT_DIR.
 * Precedence: default < file < environment < flag.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

enum st_option_type {
        ST_OPTION_BOOL,   /* --x, --x=true|false; a config value true|false */
        ST_OPTION_INT,    /* a decimal number, may be negative */
        ST_OPTION_SIZE,   /* bytes; suffixes K, M, G, T (powers of 1024) */
        ST_OPTION_STRING, /* any text */
        ST_OPTION_LIST,   /* texts; the flag may be repeated, each time one element */
};

struct st_option {
        const char *flag; /* long name without dashes; NULL: only a config key */
        char letter;      /* short flag, or 0 */
        enum st_option_type type;
        const char *key;        /* config key, e.g. "Checkpoint.Dir"; NULL: only a flag */
        const char *fallback;   /* default, as text; NULL: none, the option is then "not set" */
        const char *value_name; /* what help calls the value: "DIR"; NULL for BOOL without one */
        const char *help;       /* one sentence, lower case, no full stop */
        const char *choices;    /* allowed values separated by |, or NULL */
        const char *bare; /* value when the flag is given without '='; then it never takes the next argument; or NULL */
};

/** The end of a table of rows. */
#define ST_OPTION_END \
        { 0 }

/** What the command line and the configuration said: the values of a set of rows. Read-only, any thread. */
struct st_arguments;

/** @return was the option given as a flag (not by the configuration)? The name is the flag's or the key's. */
ST_PUBLIC bool st_arguments_given(const struct st_arguments *arguments, const char *name);

/** @return the text of an option (default included), NULL when not set; owned by the arguments */
ST_PUBLIC const char *st_arguments_string(const struct st_arguments *arguments, const char *name);

/** @return the truth of an option; false when not set */
ST_PUBLIC bool st_arguments_bool(const struct st_arguments *arguments, const char *name);

/** @return the number of an INT or SIZE option; 0 when not set */
ST_PUBLIC int64_t st_arguments_int(const struct st_arguments *arguments, const char *name);

/** @return the NULL-terminated values of a LIST option, never NULL; owned by the arguments */
ST_PUBLIC const char *const *st_arguments_list(const struct st_arguments *arguments, const char *name);

/** @return the positional arguments after the command's words, NULL-terminated, never NULL */
ST_PUBLIC const char *const *st_arguments_words(const struct st_arguments *arguments);
