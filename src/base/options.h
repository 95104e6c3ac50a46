/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Parsing rows of options (stasis/option.h) from the command line, the environment and configuration files. */

#include <stdio.h>
#include <jansson.h>

#include <stasis/option.h>

/** Where a value came from; higher wins. */
enum origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_FLAG, ORIGIN_COUNT };

/** Several tables of rows, each ended by ST_OPTION_END, looked at one after the other. */
struct option_tables {
        const struct st_option **tables;
        size_t n, room;
};

/** @return does the flag take the next argument when it has no value of its own ("--x=value", "-xvalue")? */
static inline bool option_takes_next(const struct st_option *row) {
        return row->type != ST_OPTION_BOOL && !row->bare;
}

void option_tables_add(struct option_tables *tables, const struct st_option *rows);
void option_tables_clear(struct option_tables *tables);

/** Finds a row by flag or by key; NULL: none. */
const struct st_option *option_tables_find(const struct option_tables *tables, const char *name);

/**
 * The variable of a key: words are split at dots and at case (Checkpoint.Dir → STASIS_CHECKPOINT_DIR, AWS.AccessKeyID →
 * STASIS_AWS_ACCESS_KEY_ID). malloc'ed
 */
char *option_variable(const char *key);

/**
 * Makes a set of values for the rows, with their defaults. The rows must outlive it; the struct need not. Rows with the
 * same key, in whatever tables, share one value; of rows with the same flag the first one counts.
 */
struct st_arguments *arguments_new(const struct option_tables *tables);
struct st_arguments *arguments_free(struct st_arguments *arguments);
static inline void arguments_freep(struct st_arguments **arguments) {
        *arguments = arguments_free(*arguments);
}

/**
 * Sets one value from text, checked against the row (type, choices). An equal or lower origin is replaced; LIST flags
 * append within one origin.
 *
 * @param where for messages: "--streams", "STASIS_DB_PATH", "/etc/stasis/config.json:12"
 */
int arguments_set(struct st_arguments *arguments, const struct st_option *row, const char *value, enum origin origin,
                  const char *where, struct st_error **err);

/** Takes the STASIS_ variables of the rows from environ; a LIST is separated by commas. An empty one is not set. */
int arguments_load_environment(struct st_arguments *arguments, struct st_error **err);

/**
 * Reads a configuration file: a JSON object of objects, keys as in the rows (case counts). An unknown key is an error
 * that names file and line, and the key that was probably meant; so is a value of another JSON type than the row's
 * (of a SIZE a number or a text with its unit, of a LIST a list of texts or one that commas divide). A missing file is
 * no error.
 */
int arguments_load_file(struct st_arguments *arguments, const char *path, struct st_error **err);

/**
 * As arguments_load_file(), for JSON text with a given origin. With ORIGIN_FLAG (`--config JSON`) it does not replace
 * what a flag of its own has set, before or later, and does not make st_arguments_given() true.
 *
 * @param where with ORIGIN_FILE the path, to which lines are added; else how messages name the source: "--config"
 */
int arguments_load_json(struct st_arguments *arguments, const char *text, enum origin origin, const char *where,
                        struct st_error **err);

/**
 * Takes flags out of argv (which has no program name). Flags may stand anywhere before "--"; --flag=value,
 * --flag value, -f value, -fvalue, -f=value; a BOOL takes a value only after "="; BOOLs may share a dash: -ab. What is
 * no flag is appended to the words.
 *
 * @param stop_after when not SIZE_MAX: after that many words, those of earlier calls included, everything is a word,
 *                   flags too (`run process sh -c '…'`)
 * @return 0 or -EINVAL (unknown flag: with the nearest known one as hint)
 */
int arguments_parse(struct st_arguments *arguments, char *const *argv, size_t stop_after, struct st_error **err);

/** Takes away the first n words: those of the command itself. */
void arguments_drop_words(struct st_arguments *arguments, size_t n);

/** @return who set the row's value */
enum origin arguments_origin(const struct st_arguments *arguments, const struct st_option *row);

/** @return where exactly: "default", "/etc/stasis/config.json:3", "STASIS_X", "--flag" */
const char *arguments_where(const struct st_arguments *arguments, const struct st_option *row);

/** All keyed values as nested JSON objects, typed; what is not set is left out. New reference. */
json_t *arguments_to_json(const struct st_arguments *arguments);

/** Writes the rows as help text, aligned, wrapped at `width` columns; rows without a flag are left out. */
void options_print_help(FILE *f, const struct st_option *rows, int width);
