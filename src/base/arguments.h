/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What options*.c share: how the values of rows are kept. Everybody else uses base/options.h. */

#include "base/options.h"
#include "base/text.h"

/** One value. Rows with the same config key share it: a command's --dir is the configuration's Checkpoint.Dir. */
struct slot {
        enum origin origin;
        bool given; /* by a flag of its own; in ORIGIN_FLAG that beats --config JSON */
        bool set;
        char *text; /* canonical: true or false of a BOOL; the elements of a LIST joined by commas */
        struct strv list;
        char *where;
};

struct binding {
        const struct st_option *row;
        struct slot *slot;
};

struct st_arguments {
        struct binding *bindings; /* all rows of all tables, in order */
        size_t n, room;
        struct strv words;
};

/** @return the slot of the first row with this flag or key, or NULL */
struct slot *arguments_slot(const struct st_arguments *arguments, const char *name);

/** @return is this binding the first one of its key? (Keys are looked at once, however many rows have them.) */
bool arguments_is_first(const struct st_arguments *arguments, size_t i);

/**
 * Sets values: one of a scalar, any number of a LIST. Nothing happens when a higher origin has set the row.
 *
 * @param append add to a LIST of the same origin instead of replacing it
 * @param where what arguments_where() shall say
 * @param label how messages name the option
 */
int arguments_assign(struct st_arguments *arguments, const struct st_option *row, const struct strv *values,
                     enum origin origin, bool given, bool append, const char *where, const char *label,
                     struct st_error **err);
