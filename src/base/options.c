/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "base/arguments.h"
#include "base/cleanup.h"
#include "base/memory.h"
#include "base/options.h"

static bool is_end(const struct st_option *row) {
        return !row->flag && !row->key;
}

void option_tables_add(struct option_tables *tables, const struct st_option *rows) {
        GROW(tables->tables, tables->n, tables->room);
        tables->tables[tables->n++] = rows;
}

void option_tables_clear(struct option_tables *tables) {
        free(tables->tables);
        *tables = (struct option_tables){ 0 };
}

static bool has_name(const struct st_option *row, const char *name) {
        return (row->flag && streq(row->flag, name)) || (row->key && streq(row->key, name));
}

const struct st_option *option_tables_find(const struct option_tables *tables, const char *name) {
        for (size_t t = 0; t < tables->n; t++)
                for (const struct st_option *row = tables->tables[t]; !is_end(row); row++)
                        if (has_name(row, name))
                                return row;
        return NULL;
}

char *option_variable(const char *key) {
        char *result = xmalloc(sizeof("STASIS_") + 2 * strlen(key)), *out = stpcpy(result, "STASIS_");

        for (const char *c = key; *c; c++) {
                bool follows = c > key && c[-1] != '.';

                /* A word begins at a capital after a small letter or digit, and at the last capital of several. */
                if (follows && isupper((unsigned char)*c) &&
                    (!isupper((unsigned char)c[-1]) || islower((unsigned char)c[1])))
                        *out++ = '_';
                *out++ = *c == '.' ? '_' : (char)toupper((unsigned char)*c);
        }
        *out = 0;
        return result;
}

/* "a, b or c" of "a|b|c" */
static char *describe_choices(const char *choices) {
        _cleanup_strv_ struct strv list = { 0 };

        strv_split(&list, choices, '|');
        if (list.n < 2)
                return xstrdup(choices);
        char *last = list.items[--list.n];
        list.items[list.n] = NULL;
        _cleanup_free_ char *others = strv_join(&list, ", ");
        char *result = xasprintf("%s or %s", others, last);
        free(last);
        return result;
}

static int check_choice(const struct st_option *row, const char *value, const char *label, struct st_error **err) {
        _cleanup_strv_ struct strv choices = { 0 };
        struct nearest nearest = { .wanted = value };

        if (!row->choices)
                return 0;
        strv_split(&choices, row->choices, '|');
        if (strv_has(&choices, value))
                return 0;

        _cleanup_free_ char *allowed = describe_choices(row->choices);
        int r = st_error_set(err, EINVAL, "%s: expected %s, not \"%s\"", label, allowed, value);
        for (size_t i = 0; i < choices.n; i++)
                nearest_offer(&nearest, choices.items[i]);
        if (nearest.best)
                st_error_hint(err, "did you mean %s?", nearest.best);
        return r;
}

/* Checks a value and makes it canonical. @param ret malloc'ed */
static int check_value(const struct st_option *row, const char *value, const char *label, char **ret,
                       struct st_error **err) {
        const char *expected = NULL;
        uint64_t size = 0;
        int64_t number;
        bool truth;
        int r = 0;

        switch (row->type) {
        case ST_OPTION_BOOL:
                r = text_to_bool(value, &truth);
                expected = "true or false";
                if (r == 0)
                        value = truth ? "true" : "false";
                break;
        case ST_OPTION_INT:
                r = text_to_int(value, INT64_MIN, INT64_MAX, &number);
                expected = "a number";
                break;
        case ST_OPTION_SIZE:
                r = text_to_size(value, &size);
                if (r == 0 && size > INT64_MAX)
                        r = -ERANGE;
                expected = "a size such as 1048576, 512M or 2G";
                break;
        case ST_OPTION_STRING:
        case ST_OPTION_LIST:
                break;
        }
        if (r == -ERANGE)
                return st_error_set(err, EINVAL, "%s: \"%s\" is out of range", label, value);
        if (r < 0)
                return st_error_set(err, EINVAL, "%s: expected %s, not \"%s\"", label, expected, value);
        r = check_choice(row, value, label, err);
        if (r == 0)
                *ret = xstrdup(value);
        return r;
}

static void slot_clear(struct slot *slot) {
        free(slot->text);
        free(slot->where);
        strv_clear(&slot->list);
        *slot = (struct slot){ 0 };
}

static struct slot *slot_of_row(const struct st_arguments *arguments, const struct st_option *row) {
        for (size_t i = 0; i < arguments->n; i++)
                if (arguments->bindings[i].row == row)
                        return arguments->bindings[i].slot;
        return NULL;
}

int arguments_assign(struct st_arguments *arguments, const struct st_option *row, const struct strv *values,
                     enum origin origin, bool given, bool append, const char *where, const char *label,
                     struct st_error **err) {
        struct slot *slot = slot_of_row(arguments, row);
        _cleanup_strv_ struct strv checked = { 0 };

        assert(slot);
        assert(row->type == ST_OPTION_LIST || values->n == 1);
        for (size_t i = 0; i < values->n; i++) {
                char *value = NULL;
                int r = check_value(row, values->items[i], label, &value, err);
                if (r < 0)
                        return r;
                strv_take(&checked, value);
        }
        if (slot->set && (slot->origin > origin || (slot->origin == origin && slot->given && !given)))
                return 0;

        bool same = slot->set && slot->origin == origin && slot->given == given;
        struct strv kept = { 0 };
        if (append && same && row->type == ST_OPTION_LIST) {
                kept = slot->list;
                slot->list = (struct strv){ 0 };
        }
        for (size_t i = 0; i < checked.n; i++)
                strv_add(&kept, checked.items[i]);
        char *place = xstrdup(where);
        slot_clear(slot);
        *slot = (struct slot){
                .origin = origin,
                .given = given,
                .set = true,
                .text = strv_join(&kept, ","),
                .list = kept,
                .where = place,
        };
        return 0;
}

int arguments_set(struct st_arguments *arguments, const struct st_option *row, const char *value, enum origin origin,
                  const char *where, struct st_error **err) {
        _cleanup_strv_ struct strv values = { 0 };

        strv_add(&values, value);
        return arguments_assign(arguments, row, &values, origin, origin == ORIGIN_FLAG, true, where, where, err);
}

static void bind_row(struct st_arguments *arguments, const struct st_option *row) {
        struct slot *slot = row->key ? arguments_slot(arguments, row->key) : NULL;
        _cleanup_strv_ struct strv fallback = { 0 };

        GROW(arguments->bindings, arguments->n, arguments->room);
        arguments->bindings[arguments->n++] = (struct binding){ .row = row, .slot = slot ? slot : NEW(struct slot) };
        if (!row->fallback || (slot && slot->set))
                return;
        if (row->type == ST_OPTION_LIST)
                strv_split(&fallback, row->fallback, ',');
        else
                strv_add(&fallback, row->fallback);
        int r = arguments_assign(arguments, row, &fallback, ORIGIN_DEFAULT, false, false, "default", "default", NULL);
        assert(r == 0); /* a default must fit its row */
        (void)r;
}

struct st_arguments *arguments_new(const struct option_tables *tables) {
        struct st_arguments *arguments = NEW(struct st_arguments);

        for (size_t t = 0; t < tables->n; t++)
                for (const struct st_option *row = tables->tables[t]; !is_end(row); row++)
                        bind_row(arguments, row);
        return arguments;
}

bool arguments_is_first(const struct st_arguments *arguments, size_t i) {
        for (size_t j = 0; j < i; j++)
                if (arguments->bindings[j].slot == arguments->bindings[i].slot)
                        return false;
        return true;
}

struct st_arguments *arguments_free(struct st_arguments *arguments) {
        if (!arguments)
                return NULL;
        for (size_t i = arguments->n; i > 0; i--)
                if (arguments_is_first(arguments, i - 1)) {
                        slot_clear(arguments->bindings[i - 1].slot);
                        free(arguments->bindings[i - 1].slot);
                }
        free(arguments->bindings);
        strv_clear(&arguments->words);
        free(arguments);
        return NULL;
}

struct slot *arguments_slot(const struct st_arguments *arguments, const char *name) {
        for (size_t i = 0; i < arguments->n; i++)
                if (has_name(arguments->bindings[i].row, name))
                        return arguments->bindings[i].slot;
        return NULL;
}

void arguments_drop_words(struct st_arguments *arguments, size_t n) {
        struct strv *words = &arguments->words;

        n = n < words->n ? n : words->n;
        if (n == 0)
                return;
        for (size_t i = 0; i < n; i++)
                free(words->items[i]);
        words->n -= n;
        memmove(words->items, words->items + n, (words->n + 1) * sizeof(*words->items));
}

enum origin arguments_origin(const struct st_arguments *arguments, const struct st_option *row) {
        const struct slot *slot = slot_of_row(arguments, row);
        return slot ? slot->origin : ORIGIN_DEFAULT;
}

const char *arguments_where(const struct st_arguments *arguments, const struct st_option *row) {
        const struct slot *slot = slot_of_row(arguments, row);
        return slot && slot->set ? slot->where : "default";
}

bool st_arguments_given(const struct st_arguments *arguments, const char *name) {
        const struct slot *slot = arguments_slot(arguments, name);
        return slot && slot->given;
}

const char *st_arguments_string(const struct st_arguments *arguments, const char *name) {
        const struct slot *slot = arguments_slot(arguments, name);
        return slot ? slot->text : NULL;
}

bool st_arguments_bool(const struct st_arguments *arguments, const char *name) {
        const char *text = st_arguments_string(arguments, name);
        return text && streq(text, "true");
}

int64_t st_arguments_int(const struct st_arguments *arguments, const char *name) {
        const char *text = st_arguments_string(arguments, name);
        uint64_t size;
        int64_t number;

        if (!text)
                return 0;
        if (text_to_int(text, INT64_MIN, INT64_MAX, &number) == 0)
                return number;
        return text_to_size(text, &size) == 0 && size <= INT64_MAX ? (int64_t)size : 0;
}

static const char *const *list_or_empty(const struct strv *list) {
        static const char *const empty[] = { NULL };
        return list && list->items ? (const char *const *)list->items : empty;
}

const char *const *st_arguments_list(const struct st_arguments *arguments, const char *name) {
        const struct slot *slot = arguments_slot(arguments, name);
        return list_or_empty(slot ? &slot->list : NULL);
}

const char *const *st_arguments_words(const struct st_arguments *arguments) {
        return list_or_empty(&arguments->words);
}

/* A text from the outside as JSON, which must be UTF-8. */
static json_t *text_to_json(const char *text) {
        _cleanup_free_ char *safe = text_sanitise(text, strlen(text));
        json_t *json = json_string(text);
        return json ? json : json_string(safe);
}

static json_t *slot_to_json(const struct slot *slot, const struct st_option *row) {
        json_t *list;

        switch (row->type) {
        case ST_OPTION_BOOL:
                return json_boolean(streq(slot->text, "true"));
        case ST_OPTION_INT:
        case ST_OPTION_SIZE: {
                uint64_t size = 0;
                int64_t number;
                if (text_to_int(slot->text, INT64_MIN, INT64_MAX, &number) == 0)
                        return json_integer(number);
                (void)text_to_size(slot->text, &size);
                return json_integer((json_int_t)size);
        }
        case ST_OPTION_LIST:
                list = json_array();
                for (size_t i = 0; i < slot->list.n; i++)
                        json_array_append_new(list, text_to_json(slot->list.items[i]));
                return list;
        case ST_OPTION_STRING:
                break;
        }
        return text_to_json(slot->text);
}

json_t *arguments_to_json(const struct st_arguments *arguments) {
        json_t *root = json_object();

        for (size_t i = 0; i < arguments->n; i++) {
                const struct binding *binding = &arguments->bindings[i];
                _cleanup_strv_ struct strv parts = { 0 };
                json_t *object = root;

                if (!binding->row->key || !binding->slot->set || !arguments_is_first(arguments, i))
                        continue;
                strv_split(&parts, binding->row->key, '.');
                for (size_t p = 0; p + 1 < parts.n; p++) {
                        json_t *section = json_object_get(object, parts.items[p]);
                        if (!section) {
                                section = json_object();
                                json_object_set_new(object, parts.items[p], section);
                        }
                        object = section;
                }
                json_object_set_new(object, parts.items[parts.n - 1], slot_to_json(binding->slot, binding->row));
        }
        return root;
}
