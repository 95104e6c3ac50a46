/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>
#include <libsmartcols.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/table.h"
#include "base/text.h"

#define WIDTH_MAX 100000

struct row {
        char **cells; /* as many as columns; NULL: empty */
        size_t parent;
};

struct table {
        struct strv names;
        struct row *rows;
        size_t n, room;
        bool tree;
};

DEFINE_CLEANUP(struct libscols_table, scols_unref_table)

struct table *table_new(const char *const *names) {
        struct table *table = NEW(struct table);

        for (; *names; names++)
                strv_add(&table->names, *names);
        return table;
}

struct table *table_free(struct table *table) {
        if (!table)
                return NULL;
        for (size_t i = 0; i < table->n; i++) {
                for (size_t c = 0; c < table->names.n; c++)
                        free(table->rows[i].cells[c]);
                free(table->rows[i].cells);
        }
        free(table->rows);
        strv_clear(&table->names);
        free(table);
        return NULL;
}

size_t table_add_below(struct table *table, size_t parent, const char *const *cells) {
        struct row row = { .cells = xcalloc(table->names.n, sizeof(*row.cells)), .parent = parent };

        for (size_t c = 0; c < table->names.n; c++)
                row.cells[c] = cells[c] ? text_sanitise(cells[c], strlen(cells[c])) : NULL;
        /* Only a row that is already there can be a parent: so there are no circles. */
        if (parent >= table->n)
                row.parent = SIZE_MAX;
        else
                table->tree = true;
        GROW(table->rows, table->n, table->room);
        table->rows[table->n] = row;
        return table->n++;
}

void table_add(struct table *table, const char *const *cells) {
        table_add_below(table, SIZE_MAX, cells);
}

/* "LAST SEEN" → last_seen */
static char *json_name(const char *name) {
        char *result = xstrdup(name);

        for (char *c = result; *c; c++)
                *c = *c == ' ' ? '_' : (char)tolower((unsigned char)*c);
        return result;
}

/* A plain decimal integer becomes a number; anything else, also 007 and what is too long, stays a text. */
static json_t *cell_to_json(const char *cell) {
        const char *digits = cell && *cell == '-' ? cell + 1 : cell;
        int64_t number;

        if (!cell)
                return json_null();
        bool odd = digits[0] == '0' && (digits[1] || digits > cell); /* 007, -0 */
        if (!odd && text_to_int(cell, INT64_MIN, INT64_MAX, &number) == 0)
                return json_integer(number);
        return json_string(cell);
}

static json_t *row_to_json(const struct table *table, const struct row *row) {
        json_t *object = json_object();

        for (size_t c = 0; c < table->names.n; c++) {
                _cleanup_free_ char *name = json_name(table->names.items[c]);
                json_object_set_new(object, name, cell_to_json(row->cells[c]));
        }
        return object;
}

static int print_json(const struct table *table) {
        _cleanup_free_ json_t **objects = xcalloc(table->n, sizeof(json_t *));
        json_t *top = json_array();

        /* Parents come before their children; the objects belong to their lists. */
        for (size_t i = 0; i < table->n; i++) {
                const struct row *row = &table->rows[i];
                json_t *list = top;

                objects[i] = row_to_json(table, row);
                if (row->parent != SIZE_MAX) {
                        json_t *parent = objects[row->parent];

                        list = json_object_get(parent, "children");
                        if (!list) {
                                list = json_array();
                                json_object_set_new(parent, "children", list);
                        }
                }
                json_array_append_new(list, objects[i]);
        }

        int r = json_dumpf(top, stdout, JSON_INDENT(2));
        json_decref(top);
        return r < 0 || putchar('\n') == EOF ? -EIO : 0;
}

static int print_empty(const struct table *table) {
        _cleanup_free_ char *header = strv_join(&table->names, "  ");
        return puts(header) == EOF ? -EIO : 0;
}

static int fill_lines(const struct table *table, struct libscols_table *out) {
        _cleanup_free_ struct libscols_line **lines = xcalloc(table->n, sizeof(struct libscols_line *));

        for (size_t i = 0; i < table->n; i++) {
                const struct row *row = &table->rows[i];

                lines[i] = scols_table_new_line(out, row->parent == SIZE_MAX ? NULL : lines[row->parent]);
                if (!lines[i])
                        return -ENOMEM;
                for (size_t c = 0; c < table->names.n; c++) {
                        int r = row->cells[c] ? scols_line_set_data(lines[i], c, row->cells[c]) : 0;
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static bool is_ascii(const char *text) {
        while (text && (signed char)*text > 0)
                text++;
        return !text || *text == 0;
}

/** How wide each column is. @return false: some text has characters that may be wider or narrower than a byte */
static bool measure(const struct table *table, int *ret_widths) {
        for (size_t c = 0; c < table->names.n; c++)
                ret_widths[c] = (int)strlen(table->names.items[c]);
        for (size_t i = 0; i < table->n; i++)
                for (size_t c = 0; c < table->names.n; c++) {
                        const char *cell = table->rows[i].cells[c];
                        size_t width = cell ? strlen(cell) : 0;

                        if (!is_ascii(cell) || width > WIDTH_MAX)
                                return false;
                        if ((int)width > ret_widths[c])
                                ret_widths[c] = (int)width;
                }
        return true;
}

static void print_row(char *const *cells, const int *widths, size_t n) {
        for (size_t c = 0; c + 1 < n; c++)
                printf("%-*s  ", widths[c], cells[c] ?: "");
        puts(cells[n - 1] ?: "");
}

/** As libsmartcols prints it, but in a fraction of the time: there are tables with ten thousand rows. */
static void print_plain(const struct table *table, const int *widths) {
        print_row(table->names.items, widths, table->names.n);
        for (size_t i = 0; i < table->n; i++)
                print_row(table->rows[i].cells, widths, table->names.n);
}

static int print_text(const struct table *table) {
        _cleanup_free_ int *widths = xcalloc(table->names.n, sizeof(int));

        if (table->n == 0)
                return print_empty(table); /* libsmartcols prints nothing, not even the names */
        if (!table->tree && measure(table, widths)) {
                print_plain(table, widths);
                return 0;
        }

        scols_init_debug(0);
        _cleanup_(scols_unref_tablep) struct libscols_table *out = scols_new_table();
        if (!out)
                return -ENOMEM;
        /* Whoever reads a column needs all of it: no line is fitted to the terminal. */
        scols_table_set_termforce(out, SCOLS_TERMFORCE_NEVER);
        scols_table_set_column_separator(out, "  ");
        scols_table_set_stream(out, stdout);
        for (size_t c = 0; c < table->names.n; c++)
                if (!scols_table_new_column(out, table->names.items[c], 0, c == 0 && table->tree ? SCOLS_FL_TREE : 0))
                        return -ENOMEM;

        int r = fill_lines(table, out);
        return r < 0 ? r : scols_print_table(out);
}

int table_print(struct table *table, bool json, struct st_error **err) {
        errno = 0;
        int r = json ? print_json(table) : print_text(table);
        if (fflush(stdout) == EOF || ferror(stdout))
                r = errno > 0 ? -errno : -EIO;
        return r < 0 ? st_error_errno(err, r, "cannot write the table") : 0;
}
