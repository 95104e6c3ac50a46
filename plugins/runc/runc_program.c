/* SPDX-License-Identifier: Apache-2.0 */

/* Running the program, and what it says when it fails. */

#include <stasis/child.h>

#include "runc.h"

void runc_program(struct util_list *argv, const char *root) {
        util_list_add(argv, runc_engine.name);
        util_list_add(argv, "--log-format=json");
        if (root)
                util_list_addf(argv, "--root=%s", root);
}

/** The message of a line of the log: {"level": "error", "msg": …}; NULL: it is none of an error. malloc'ed */
static char *error_of_line(const char *line, size_t size) {
        _cleanup_json_ json_t *object = json_loadb(line, size, 0, NULL);
        const char *level = util_json_text(object, "level", NULL), *text = util_json_text(object, "msg", NULL);

        if (text && (!level || streq(level, "error") || streq(level, "fatal")))
                return util_strdup(text);
        return NULL;
}

char *runc_last_error(const char *output) {
        char *found = NULL, *other = NULL;

        while (*output) {
                size_t size = strcspn(output, "\n");
                char *text = error_of_line(output, size);

                if (text) {
                        free(found);
                        found = text;
                } else if (size > 0 && *output != '{') {
                        free(other);
                        other = util_printf("%.*s", (int)(size < 1024 ? size : 1024), output);
                }
                output += size + (output[size] == '\n');
        }
        if (found) {
                free(other);
                return found;
        }
        return other;
}

static int run(const struct util_list *argv, bool dumps, int *ret_code, struct st_error **err) {
        const struct st_child child = {
                .size = sizeof(child),
                .path = argv->items[0],
                .argv = argv->items,
                .dumps = dumps,
        };
        _cleanup_free_ char *output = NULL, *said = NULL;
        int code = st_child_run(&child, -1, -EBADF, &output, err);

        if (code < 0) {
                st_error_hint(err, "install %s, or put it in the PATH of whoever runs this", runc_engine.name);
                return code;
        }
        if (ret_code)
                *ret_code = code;
        if (code == 0)
                return 0;
        said = runc_last_error(output);
        return said ? st_error_set(err, EIO, "%s: %s", runc_engine.name, said)
                    : st_error_set(err, EIO, "%s ended with exit code %d and said nothing", runc_engine.name, code);
}

int runc_program_run(const struct util_list *argv, int *ret_code, struct st_error **err) {
        return run(argv, false, ret_code, err);
}

int runc_program_dump(const struct util_list *argv, int *ret_code, struct st_error **err) {
        return run(argv, true, ret_code, err);
}

int runc_wait_status(int code) {
        return code > 128 && code < 128 + 65 ? code - 128 : code << 8;
}
