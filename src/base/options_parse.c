/* SPDX-License-Identifier: Apache-2.0 */

/* Values from the command line and the environment. */

#include <errno.h>
#include <stdlib.h>

#include "base/arguments.h"
#include "base/cleanup.h"
#include "base/memory.h"
#include "base/options.h"

int arguments_load_environment(struct st_arguments *arguments, struct st_error **err) {
        for (size_t i = 0; i < arguments->n; i++) {
                const struct st_option *row = arguments->bindings[i].row;
                _cleanup_strv_ struct strv values = { 0 };

                if (!row->key || !arguments_is_first(arguments, i))
                        continue;
                _cleanup_free_ char *variable = option_variable(row->key);
                const char *value = getenv(variable);
                if (isempty(value)) /* an empty variable is the shell's way to say "not set" */
                        continue;
                if (row->type == ST_OPTION_LIST)
                        strv_split(&values, value, ',');
                else
                        strv_add(&values, value);
                int r = arguments_assign(arguments, row, &values, ORIGIN_ENVIRONMENT, false, false, variable, variable,
                                         err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* @param length of the name; flags are often followed by "=value" */
static const struct st_option *find_flag(const struct st_arguments *arguments, const char *name, size_t length) {
        for (size_t i = 0; i < arguments->n; i++) {
                const char *flag = arguments->bindings[i].row->flag;

                if (flag && strlen(flag) == length && memcmp(flag, name, length) == 0)
                        return arguments->bindings[i].row;
        }
        return NULL;
}

static const struct st_option *find_letter(const struct st_arguments *arguments, char letter) {
        for (size_t i = 0; i < arguments->n; i++)
                if (arguments->bindings[i].row->flag && arguments->bindings[i].row->letter == letter)
                        return arguments->bindings[i].row;
        return NULL;
}

static int unknown_flag(const struct st_arguments *arguments, const char *name, size_t length, struct st_error **err) {
        _cleanup_free_ char *wanted = xstrndup(name, length);
        struct nearest nearest = { .wanted = wanted };
        int r = st_error_set(err, EINVAL, "unknown flag --%s", wanted);

        for (size_t i = 0; i < arguments->n; i++)
                if (arguments->bindings[i].row->flag)
                        nearest_offer(&nearest, arguments->bindings[i].row->flag);
        if (nearest.best)
                st_error_hint(err, "did you mean --%s?", nearest.best);
        return r;
}

static int set_flag(struct st_arguments *arguments, const struct st_option *row, const char *value,
                    struct st_error **err) {
        _cleanup_free_ char *where = xasprintf("--%s", row->flag);

        if (value)
                return arguments_set(arguments, row, value, ORIGIN_FLAG, where, err);
        if (row->choices)
                return st_error_set(err, EINVAL, "%s needs a value: %s", where, row->choices);
        return st_error_set(err, EINVAL, "%s needs a value%s%s", where, row->value_name ? ": " : "",
                            row->value_name ? row->value_name : "");
}

/* --name, --name=value, --name value. @return how many arguments were taken */
static int parse_long(struct st_arguments *arguments, char *const *argv, struct st_error **err) {
        const char *name = argv[0] + 2;
        size_t length = strcspn(name, "=");
        const char *value = name[length] == '=' ? name + length + 1 : NULL;
        const struct st_option *row = find_flag(arguments, name, length);
        int taken = 1;

        if (!row)
                return unknown_flag(arguments, name, length, err);
        if (!value && !option_takes_next(row))
                value = row->bare ? row->bare : "true";
        if (!value) {
                value = argv[1];
                taken = 2;
        }
        int r = set_flag(arguments, row, value, err);
        return r < 0 ? r : taken;
}

/* -f, -fvalue, -f=value, -f value, and several BOOLs in one: -abc. @return how many arguments were taken */
static int parse_short(struct st_arguments *arguments, char *const *argv, struct st_error **err) {
        for (const char *c = argv[0] + 1; *c; c++) {
                const struct st_option *row = find_letter(arguments, *c);
                bool first = c == argv[0] + 1;
                int r;

                if (!row)
                        return first && !c[1] ? st_error_set(err, EINVAL, "unknown flag -%c", *c)
                                              : st_error_set(err, EINVAL, "unknown flag -%c in %s", *c, argv[0]);
                if (row->type == ST_OPTION_BOOL) {
                        const char *value = c[1] == '=' ? c + 2 : "true";

                        r = set_flag(arguments, row, value, err);
                        if (r < 0)
                                return r;
                        if (c[1] == '=')
                                return 1;
                        continue;
                }
                if (!first)
                        return st_error_set(err, EINVAL, "-%c (--%s) needs a value and must stand alone, not in %s", *c,
                                            row->flag, argv[0]);

                const char *joined = c[1] == '=' ? c + 2 : c[1] ? c + 1 : row->bare;
                r = set_flag(arguments, row, joined ? joined : argv[1], err);
                return r < 0 ? r : joined ? 1 : 2;
        }
        return 1;
}

int arguments_parse(struct st_arguments *arguments, char *const *argv, size_t stop_after, struct st_error **err) {
        bool flags = true;

        while (*argv) {
                int taken = 1;

                if (arguments->words.n >= stop_after)
                        flags = false;
                if (flags && streq(*argv, "--"))
                        flags = false;
                else if (flags && text_after(*argv, "--"))
                        taken = parse_long(arguments, argv, err);
                else if (flags && **argv == '-' && (*argv)[1])
                        taken = parse_short(arguments, argv, err);
                else
                        strv_add(&arguments->words, *argv);
                if (taken < 0)
                        return taken;
                argv += taken;
        }
        return 0;
}
