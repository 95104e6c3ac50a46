/* SPDX-License-Identifier: Apache-2.0 */

/* Fuzzes arguments_parse(): the first byte says after how many words flags stop, the rest are arguments, one a line. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/text.h"

static const struct st_option rows[] = {
        { "dir", 'd', ST_OPTION_STRING, "Checkpoint.Dir", "/var", "DIR", "a text", NULL },
        { "streams", 's', ST_OPTION_INT, "Checkpoint.Streams", "0", "N", "a number", NULL },
        { "limit", 'l', ST_OPTION_SIZE, "Checkpoint.Limit", "512M", "BYTES", "a size", NULL },
        { "compression", 'c', ST_OPTION_STRING, NULL, "tar", "NAME", "a choice", "none|tar|gzip" },
        { "external", 'e', ST_OPTION_LIST, "CRIU.External", NULL, "KEY", "a list", NULL },
        { "all", 'a', ST_OPTION_BOOL, NULL, NULL, NULL, "a truth", NULL },
        { "leave-running", 'r', ST_OPTION_BOOL, "CRIU.LeaveRunning", "true", "BOOL", "another", NULL },
        ST_OPTION_END,
};

/* Reads everything that was parsed, so that a sanitiser sees what must not be there. */
static void use(const struct st_arguments *arguments) {
        for (const struct st_option *row = rows; row->flag; row++) {
                const char *text = st_arguments_string(arguments, row->flag);
                volatile size_t length = text ? strlen(text) : 0;

                (void)length;
                (void)st_arguments_int(arguments, row->flag);
                for (const char *const *element = st_arguments_list(arguments, row->flag); *element; element++)
                        length += strlen(*element);
        }
        json_t *json = arguments_to_json(arguments);
        free(json_dumps(json, 0));
        json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_error_ struct st_error *err = NULL;
        struct option_tables tables = { 0 };
        _cleanup_strv_ struct strv argv = { 0 };

        if (size == 0)
                return 0;
        _cleanup_free_ char *text = xstrndup((const char *)data + 1, size - 1);
        for (char *line = text; line;) { /* not strv_split(): an argument may be empty */
                char *end = strchr(line, '\n');

                strv_take(&argv, end ? xstrndup(line, (size_t)(end - line)) : xstrdup(line));
                line = end ? end + 1 : NULL;
        }
        option_tables_add(&tables, rows);
        _cleanup_(arguments_freep) struct st_arguments *arguments = arguments_new(&tables);
        option_tables_clear(&tables);

        size_t stop_after = data[0] == '-' ? SIZE_MAX : data[0] % 8;
        int r = arguments_parse(arguments, argv.items, stop_after, &err);
        if ((r < 0) != (err != NULL) || (err && !*st_error_message(err)))
                abort();
        use(arguments);
        return 0;
}
