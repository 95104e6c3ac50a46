/* SPDX-License-Identifier: Apache-2.0 */

/* Running the program, and what it says when it fails. */

#include "runc.h"

void runc_program(struct util_list *argv, const char *root) {
        util_list_add(argv, runc_engine.name);
        util_list_add(argv, "--log-format=json");
        if (root)
                util_list_addf(argv, "--root=%s", root);
}

void runc_global_flags(struct util_list *argv, const char *root, const char *log, const Plugins__Runc__Runc *runc) {
        const char *format = isempty(runc->log) ? "json" : isempty(runc->logformat) ? "text" : runc->logformat;

        util_list_add(argv, runc_engine.name);
        util_list_addf(argv, "--log-format=%s", format);
        util_list_addf(argv, "--root=%s", root);
        util_list_addf(argv, "--log=%s", log);
        if (!isempty(runc->rootless) && runc_engine.has_state_file)
                util_list_addf(argv, "--rootless=%s", runc->rootless);
        if (runc->has_systemdcgroup && runc->systemdcgroup)
                util_list_add(argv, "--systemd-cgroup");
}

void runc_on_terminal(struct util_list *argv) {
        util_list_add(argv, "setsid");
        util_list_add(argv, "--ctty");
}

pid_t runc_read_pid(const struct st_operation *operation) {
        _cleanup_free_ char *path = util_printf("%s/pid", st_operation_work_dir(operation)), *text = NULL;

        if (util_read_file(path, 64, &text, NULL) < 0)
                return 0;
        long pid = strtol(text, NULL, 10);
        return pid > 0 && pid <= 0x7fffffff ? (pid_t)pid : 0;
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

static int run(const struct util_list *argv, const struct st_child_fd *images, int *ret_code, struct st_error **err) {
        const struct st_child child = {
                .size = sizeof(child),
                .path = argv->items[0],
                .argv = argv->items,
                .fds = images,
                .n_fds = images ? 1 : 0,
                .dumps = images,
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
        if (code > 128) {
                st_error_set(err, EIO, "%s was killed by signal %d (%s)", runc_engine.name, code - 128,
                             strsignal(code - 128));
                st_error_hint(err, "nothing of stasis kills it; when memory was short, the kernel's log says so");
                return -EIO;
        }
        said = runc_last_error(output);
        return said ? st_error_set(err, EIO, "%s: %s", runc_engine.name, said)
                    : st_error_set(err, EIO, "%s ended with exit code %d and said nothing", runc_engine.name, code);
}

int runc_program_run(const struct util_list *argv, int *ret_code, struct st_error **err) {
        return run(argv, NULL, ret_code, err);
}

int runc_program_dump(const struct util_list *argv, const struct st_child_fd *images, int *ret_code,
                      struct st_error **err) {
        return run(argv, images, ret_code, err);
}

int runc_wait_status(int code) {
        return code > 128 && code < 128 + 65 ? code - 128 : code << 8;
}
