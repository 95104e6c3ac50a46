/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One table object for data on stdout: printed as text by libsmartcols, or as JSON; the same cells in both. */

#include <stdbool.h>
#include <stddef.h>

#include <stasis/error.h>

struct table;

/** @param names of the columns, NULL-terminated: capitals in text, lower case in JSON */
struct table *table_new(const char *const *names);
struct table *table_free(struct table *table);
static inline void table_freep(struct table **table) {
        *table = table_free(*table);
}

/** Appends a row of as many texts as there are columns (NULL: an empty cell). Copied, sanitised. */
void table_add(struct table *table, const char *const *cells);

/** As table_add(), for a row below the row `parent` of the tree (SIZE_MAX: at the top). @return the row's number */
size_t table_add_below(struct table *table, size_t parent, const char *const *cells);

/**
 * Prints it on stdout, as text or JSON: an array of objects, children of a tree in "children", plain decimal integers
 * as numbers, empty cells as null. Text is never cut; characters beyond ASCII need setlocale() by the program.
 */
int table_print(struct table *table, bool json, struct st_error **err);
