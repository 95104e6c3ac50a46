/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/jid.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "criu/options.h"

Criu__CriuOpts *request_criu(Criu__CriuOpts **criu) {
        if (!*criu)
                *criu = message_new(&criu__criu_opts__descriptor);
        return *criu;
}

static void off_add(size_t *n_off, char ***off, const char *field) {
        for (size_t i = 0; i < *n_off; i++)
                if (streq((*off)[i], field))
                        return;
        message_append(n_off, off, xstrdup(field));
}

static void off_remove(size_t *n_off, char **off, const char *field) {
        for (size_t i = 0; i < *n_off; i++)
                if (streq(off[i], field)) {
                        free(off[i]);
                        memmove(&off[i], &off[i + 1], (*n_off - i - 1) * sizeof(*off));
                        (*n_off)--;
                        return;
                }
}

/* What --criu-opts turns off is as much the user's will as a flag; false of leave_running means something by itself. */
static void off_from_json(const char *text, size_t *n_off, char ***off) {
        json_t *object = json_loads(text, 0, NULL), *value;
        const char *name;

        json_object_foreach(object, name, value) {
                const char *field = json_is_false(value) ? criu_options_boolean(name) : NULL;

                if (field && !streq(field, "leave_running"))
                        off_add(n_off, off, field);
        }
        json_decref(object);
}

static int set_boolean(Criu__CriuOpts *criu, const char *field, bool value, struct st_error **err) {
        _cleanup_free_ char *json = xasprintf("{\"%s\": %s}", field, value ? "true" : "false");

        return criu_options_from_json(criu, json, err);
}

int request_fill_criu(const struct st_arguments *arguments, const struct criu_flag *flags, Criu__CriuOpts **criu,
                      size_t *n_off, char ***off, struct st_error **err) {
        const char *json = st_arguments_string(arguments, "criu-opts");
        const char *const *external = st_arguments_list(arguments, "external");
        int r;

        if (json) {
                r = criu_options_from_json(request_criu(criu), json, err);
                if (r < 0)
                        return st_error_wrap(err, "--criu-opts");
                off_from_json(json, n_off, off);
        }
        for (; flags->flag; flags++) {
                if (!st_arguments_given(arguments, flags->flag))
                        continue;
                bool on = st_arguments_bool(arguments, flags->flag);

                r = set_boolean(request_criu(criu), flags->field, on, err);
                if (r < 0)
                        return r;
                if (on)
                        off_remove(n_off, *off, flags->field);
                else
                        off_add(n_off, off, flags->field);
        }
        for (; *external; external++) {
                Criu__CriuOpts *options = request_criu(criu);

                message_append(&options->n_external, &options->external, xstrdup(*external));
        }
        return 0;
}

void request_fill_hooks(const struct st_arguments *arguments, size_t *n, char ***hooks) {
        for (const char *const *given = st_arguments_list(arguments, "hook"); *given; given++) {
                const char *equals = strchr(*given, '=');
                _cleanup_free_ char *path = equals && equals[1] ? path_absolute(equals + 1) : NULL;

                /* What is no WHEN=PROGRAM is refused by whoever runs them. */
                message_append(n, hooks,
                               path ? xasprintf("%.*s=%s", (int)(equals - *given), *given, path) : xstrdup(*given));
        }
}

void request_set_path(char **field, const struct st_arguments *arguments, const char *flag) {
        const char *path = st_arguments_string(arguments, flag);

        if (isempty(path))
                return;
        if (strstr(path, "://")) {
                message_set_string(field, path);
                return;
        }
        _cleanup_free_ char *absolute = path_absolute(path);
        message_set_string(field, absolute);
}

char *request_target(const char *type, const struct st_arguments *arguments) {
        const char *word = st_arguments_words(arguments)[0];

        return word ? xasprintf("%s %s", type, word) : xstrdup(type);
}

int request_pid(const char *const *words, Daemon__Process **ret, struct st_error **err) {
        pid_t pid;

        if (!words[0])
                return st_error_set(err, EINVAL, "PID is missing");
        if (words[1])
                return st_error_set(err, EINVAL, "unexpected argument '%s'", words[1]);
        if (text_to_pid(words[0], &pid) < 0)
                return st_error_set(err, EINVAL, "not a PID: %s", words[0]);

        *ret = message_new(&daemon__process__descriptor);
        (*ret)->has_pid = 1;
        (*ret)->pid = (uint32_t)pid;
        return 0;
}

int request_fill_process(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err) {
        return request_pid(st_arguments_words(arguments), &req->details->process, err);
}

int request_jid(const struct st_arguments *arguments, char **ret, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);

        if (!words[0]) {
                st_error_set(err, EINVAL, "JID is missing");
                st_error_hint(err, "'stasis ps' shows all jobs");
                return -EINVAL;
        }
        if (words[1])
                return st_error_set(err, EINVAL, "unexpected argument '%s'", words[1]);
        if (st_arguments_bool(arguments, "no-server")) {
                st_error_set(err, EINVAL, "--no-server: only the daemon knows jobs");
                st_error_hint(err, "name its process: 'process PID'");
                return -EINVAL;
        }
        message_set_string(ret, words[0]);
        return 0;
}

int request_new_jid(const struct st_arguments *arguments, char **ret, struct st_error **err) {
        const char *jid = st_arguments_string(arguments, "jid");
        int r;

        if (!st_arguments_given(arguments, "jid"))
                return 0;
        /* On the wire an empty one means none: a script whose variable is not set would get a name it does not know. */
        r = jid_check(jid, err);
        if (r >= 0)
                message_set_string(ret, jid);
        return r;
}

int request_fill_job(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err) {
        return request_jid(arguments, &req->details->jid, err);
}
