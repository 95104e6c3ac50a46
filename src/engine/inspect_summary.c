/* SPDX-License-Identifier: Apache-2.0 */

/* What a plugin says of a checkpoint that its handler made, for whoever inspects it. */

#include <errno.h>
#include <jansson.h>

#include <stasis/checkpoint.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "engine/inspect_parts.h"

#define VERSION 1
#define ROWS_MAX 1000

static int bad(struct st_error **err, const char *what) {
        return st_error_set(err, EBADMSG, ST_SUMMARY_FILE " is damaged: %s", what);
}

static int read_rows(struct inspection *inspection, const json_t *rows, struct st_error **err) {
        json_t *row;
        size_t index;

        if (!json_is_array(rows) || json_array_size(rows) > ROWS_MAX)
                return bad(err, "it has no list of rows, or a very long one");
        json_array_foreach(rows, index, row) {
                const char *label = json_string_value(json_array_get(row, 0));
                const char *text = json_string_value(json_array_get(row, 1));

                if (!label || !text)
                        return bad(err, "a row of it is none");
                int r = inspect_count_row(inspection, text, err);
                if (r < 0)
                        return r;
                GROW(inspection->remarks, inspection->n_remarks, inspection->remarks_room);
                inspection->remarks[inspection->n_remarks++] =
                        (struct inspect_remark){ .label = xstrdup(label), .text = xstrdup(text) };
        }
        return 0;
}

int inspect_summary_parse(struct inspection *inspection, const char *text, size_t size, struct st_error **err) {
        json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
        int r = json_integer_value(json_object_get(root, "version")) == VERSION
                        ? read_rows(inspection, json_object_get(root, "rows"), err)
                        : bad(err, "it is no JSON of a version that is known");

        json_decref(root);
        return r;
}
