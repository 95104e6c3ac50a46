/* SPDX-License-Identifier: Apache-2.0 */

/* Fuzzes arguments_load_json() as of a configuration file, with the search for the line of a wrong key. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/text.h"

static const struct st_option rows[] = {
        { NULL, 0, ST_OPTION_STRING, "Address", "/run/x", NULL, "a text", NULL },
        { NULL, 0, ST_OPTION_STRING, "LogLevel", "info", NULL, "a choice", "error|warn|info|debug" },
        { NULL, 0, ST_OPTION_STRING, "Checkpoint.Dir", NULL, NULL, "a text", NULL },
        { NULL, 0, ST_OPTION_INT, "Checkpoint.Streams", NULL, NULL, "a number", NULL },
        { NULL, 0, ST_OPTION_SIZE, "Checkpoint.Limit", NULL, NULL, "a size", NULL },
        { NULL, 0, ST_OPTION_BOOL, "Metrics.Enabled", NULL, NULL, "a truth", NULL },
        { NULL, 0, ST_OPTION_LIST, "Deep.Below.External", NULL, NULL, "a list", NULL },
        ST_OPTION_END,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = xstrndup((const char *)data, size);
        _cleanup_error_ struct st_error *err = NULL;
        struct option_tables tables = { 0 };

        option_tables_add(&tables, rows);
        _cleanup_(arguments_freep) struct st_arguments *arguments = arguments_new(&tables);
        option_tables_clear(&tables);

        int r = arguments_load_json(arguments, text, ORIGIN_FILE, "config.json", &err);
        /* Every mistake has a place: a line, but for a document that is no object at all. */
        if (r < 0 && !text_after(st_error_message(err), "config.json:"))
                abort();
        if (r == 0) {
                /* What was read can be written and read again. */
                json_t *json = arguments_to_json(arguments);
                _cleanup_free_ char *again = json_dumps(json, 0);
                json_decref(json);
                if (arguments_load_json(arguments, again, ORIGIN_FILE, "again", NULL) < 0)
                        abort();
        }
        return 0;
}
