/* SPDX-License-Identifier: Apache-2.0 */

/* Values from configuration files and other JSON. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/arguments.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/options.h"

#define FILE_LIMIT ((size_t)1024 * 1024)

struct source {
        struct st_arguments *arguments;
        const char *text;
        const char *where;
        enum origin origin;
};

/* Skips the string that begins at s (its quote). @return behind its end */
static const char *skip_string(const char *s) {
        for (s++; *s && *s != '"'; s++)
                if (*s == '\\' && s[1])
                        s++;
        return *s ? s + 1 : s;
}

/* The path of a key: its token, decoded, below the object's path; malloc'ed. */
static char *key_path(const char *object, const char *token, size_t length) {
        json_t *key = json_loadb(token, length, JSON_DECODE_ANY, NULL);
        const char *name = key ? json_string_value(key) : "";
        char *path = *object ? xasprintf("%s.%s", object, name) : xstrdup(name);

        json_decref(key);
        return path;
}

/*
 * Finds the line of a key in JSON that is known to be valid; jansson does not keep it. A string is a key exactly
 * when a colon follows it. @return the line, 0 when there is no such key
 */
static size_t line_of_key(const char *text, const char *path) {
        _cleanup_strv_ struct strv open = { 0 }; /* the paths of the objects and arrays around this place */
        _cleanup_free_ char *last = xstrdup(""); /* the path of the last key: of the object that may follow */
        size_t line = 1;

        for (const char *s = text; *s;) {
                if (*s == '{' || *s == '[') {
                        /* What is in an array has no path of ours: a line break is in no key that is looked for. */
                        strv_take(&open, *s == '{' ? xstrdup(last) : xasprintf("%s\n", last));
                } else if ((*s == '}' || *s == ']') && open.n > 0) {
                        free(open.items[--open.n]);
                        open.items[open.n] = NULL;
                } else if (*s == '"') {
                        const char *end = skip_string(s), *colon = end + strspn(end, " \t\r\n");

                        if (*colon == ':') {
                                free(last);
                                last = key_path(open.n > 0 ? open.items[open.n - 1] : "", s, (size_t)(end - s));
                                if (streq(last, path))
                                        return line;
                        }
                        s = end;
                        continue;
                } else if (*s == '\n')
                        line++;
                s++;
        }
        return 0;
}

/* Where a key stands: "FILE:12"; what comes from no file has no lines. malloc'ed */
static char *place_of(const struct source *source, const char *path) {
        size_t line = source->origin == ORIGIN_FILE ? line_of_key(source->text, path) : 0;
        return line > 0 ? xasprintf("%s:%zu", source->where, line) : xstrdup(source->where);
}

static const struct st_option *find_key(const struct st_arguments *arguments, const char *key) {
        for (size_t i = 0; i < arguments->n; i++) {
                const struct st_option *row = arguments->bindings[i].row;
                if (row->key && streq(row->key, key))
                        return row;
        }
        return NULL;
}

static bool is_section(const struct st_arguments *arguments, const char *path) {
        for (size_t i = 0; i < arguments->n; i++) {
                const char *key = arguments->bindings[i].row->key, *rest = key ? text_after(key, path) : NULL;
                if (rest && *rest == '.')
                        return true;
        }
        return false;
}

static int unknown_key(const struct source *source, const char *path, bool object, struct st_error **err) {
        _cleanup_free_ char *place = place_of(source, path);
        _cleanup_strv_ struct strv sections = { 0 };
        struct nearest nearest = { .wanted = path };
        int r = st_error_set(err, EINVAL, "%s: unknown %s %s", place, object ? "section" : "key", path);

        for (size_t i = 0; i < source->arguments->n; i++) {
                const char *key = source->arguments->bindings[i].row->key, *dot = key ? strrchr(key, '.') : NULL;

                if (key && !object)
                        nearest_offer(&nearest, key);
                else if (dot)
                        strv_take(&sections, xstrndup(key, (size_t)(dot - key)));
        }
        for (size_t i = 0; i < sections.n; i++)
                nearest_offer(&nearest, sections.items[i]);
        if (nearest.best)
                st_error_hint(err, "did you mean %s?", nearest.best);
        return r;
}

static const char *type_name(const json_t *value) {
        switch (json_typeof(value)) {
        case JSON_OBJECT:
                return "an object";
        case JSON_ARRAY:
                return "a list";
        case JSON_STRING:
                return "a text";
        case JSON_NULL:
                return "null";
        case JSON_TRUE:
        case JSON_FALSE:
                return "true or false";
        case JSON_REAL:
                return "a fraction";
        default:
                return "a number";
        }
}

/* The text of a value that fits its row. malloc'ed */
static char *scalar_text(const json_t *value) {
        if (json_is_string(value))
                return xstrdup(json_string_value(value));
        if (json_is_boolean(value))
                return xstrdup(json_is_true(value) ? "true" : "false");
        return xasprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
}

/** Is a value of the JSON type that the option has? A size may also be a text with its unit, "512M". */
static bool fits(const struct st_option *row, const json_t *value) {
        switch (row->type) {
        case ST_OPTION_BOOL:
                return json_is_boolean(value);
        case ST_OPTION_INT:
                return json_is_integer(value);
        case ST_OPTION_SIZE:
                return json_is_integer(value) || json_is_string(value);
        case ST_OPTION_STRING:
        case ST_OPTION_LIST:
                return json_is_string(value);
        }
        return false;
}

static const char *expected_of(const struct st_option *row) {
        switch (row->type) {
        case ST_OPTION_BOOL:
                return "true or false";
        case ST_OPTION_INT:
                return "a whole number";
        case ST_OPTION_SIZE:
                return "a size such as 1048576 or \"512M\"";
        case ST_OPTION_STRING:
                return "a text";
        case ST_OPTION_LIST:
                return "a list of texts";
        }
        return "a value";
}

static int take_value(const struct source *source, const struct st_option *row, json_t *value, struct st_error **err) {
        _cleanup_free_ char *place = place_of(source, row->key), *label = xasprintf("%s: %s", place, row->key);
        _cleanup_strv_ struct strv values = { 0 };
        bool list = row->type == ST_OPTION_LIST;

        if (list && json_is_array(value)) {
                json_t *element;
                size_t i;

                json_array_foreach(value, i, element) {
                        if (!fits(row, element))
                                return st_error_set(err, EINVAL, "%s: expected a list of texts, not of %s", label,
                                                    type_name(element));
                        strv_take(&values, scalar_text(element));
                }
        } else if (!fits(row, value)) {
                return st_error_set(err, EINVAL, "%s: expected %s, not %s", label, expected_of(row), type_name(value));
        } else {
                _cleanup_free_ char *text = scalar_text(value);

                if (list)
                        strv_split(&values, text, ',');
                else
                        strv_add(&values, text);
        }
        return arguments_assign(source->arguments, row, &values, source->origin, false, false, place, label, err);
}

/* Goes down into sections that the rows know; so the depth is bounded by theirs. */
static int take_object(const struct source *source, json_t *object, const char *path, struct st_error **err) {
        const char *name;
        json_t *value;

        json_object_foreach(object, name, value) {
                _cleanup_free_ char *below = *path ? xasprintf("%s.%s", path, name) : xstrdup(name);
                const struct st_option *row = find_key(source->arguments, below);
                int r;

                if (row)
                        r = take_value(source, row, value, err);
                else if (!is_section(source->arguments, below))
                        r = unknown_key(source, below, json_is_object(value), err);
                else if (json_is_object(value))
                        r = take_object(source, value, below, err);
                else {
                        _cleanup_free_ char *place = place_of(source, below);
                        r = st_error_set(err, EINVAL, "%s: %s: expected an object, not %s", place, below,
                                         type_name(value));
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

int arguments_load_json(struct st_arguments *arguments, const char *text, enum origin origin, const char *where,
                        struct st_error **err) {
        struct source source = { .arguments = arguments, .text = text, .where = where, .origin = origin };
        json_error_t error;

        json_t *root = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
        if (!root && origin == ORIGIN_FILE)
                return st_error_set(err, EINVAL, "%s:%d: %s", where, error.line > 0 ? error.line : 1, error.text);
        if (!root)
                return st_error_set(err, EINVAL, "%s: %s", where, error.text);

        int r;
        if (json_is_object(root))
                r = take_object(&source, root, "", err);
        else
                r = st_error_set(err, EINVAL, "%s: expected an object, not %s", where, type_name(root));
        json_decref(root);
        return r;
}

int arguments_load_file(struct st_arguments *arguments, const char *path, struct st_error **err) {
        _cleanup_free_ char *text = NULL;
        size_t size;

        int r = io_read_file(AT_FDCWD, path, FILE_LIMIT, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return st_error_errno(err, r, "cannot read %s", path);
        if (strlen(text) != size)
                return st_error_set(err, EINVAL, "%s: a text file must not hold a NUL byte", path);
        return arguments_load_json(arguments, text, ORIGIN_FILE, path, err);
}
