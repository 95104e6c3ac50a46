/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The bundle that the program gets. runc takes CRIU's configuration file from an annotation, and it brings the loopback
 * interface of a new network namespace up only when it starts a container, not when it restores one: what listens or
 * speaks on 127.0.0.1 would be cut off, and CRIU could not restore its connections. A hook brings it up: runc runs
 * those of createRuntime when CRIU has made the namespaces and nothing else yet.
 *
 * Both are written into a copy of config.json, in a bundle of our own; afterwards the container's state says again what
 * is the container's.
 */

#include <stdio.h>
#include <sys/stat.h>

#include <stasis/checkpoint.h>

#include "runc_restore.h"

/* What our hook calls itself, so that it is found again. */
#define HOOK_NAME "stasis-loopback"

/* The state of the container comes on stdin, as JSON. A network without a loopback interface is no reason to fail. */
#define HOOK_SCRIPT                                                                                         \
        "pid=$(tr ',{}' '\\n' | sed -n 's/^ *\"pid\": *\\([0-9][0-9]*\\) *$/\\1/p') && [ -n \"$pid\" ] && " \
        "nsenter --target=\"$pid\" --net ip link set lo up || :"

/** A relative path of a configuration means the bundle's directory. */
static void make_absolute(json_t *object, const char *name, const char *directory) {
        const char *path = util_json_text(object, name, NULL);

        if (isempty(path) || *path == '/')
                return;
        _cleanup_free_ char *absolute = util_absolute(path, directory);
        json_object_set_new(object, name, json_string(absolute));
}

/** A member that is an object or a list, made when there is none. */
static json_t *member(json_t *object, const char *name, json_t *empty) {
        json_t *found = json_object_get(object, name);

        if (found && json_typeof(found) == json_typeof(empty)) {
                json_decref(empty);
                return found;
        }
        json_object_set_new(object, name, empty);
        return empty;
}

static void add_hook(json_t *config) {
        json_t *hooks = member(member(config, "hooks", json_object()), "createRuntime", json_array());

        json_array_insert_new(hooks, 0,
                              json_pack("{s:s,s:[s,s,s,s],s:[s]}", "path", "/bin/sh", "args", "sh", "-c", HOOK_SCRIPT,
                                        HOOK_NAME, "env",
                                        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
}

static int make_bundle(struct runc_plan *plan, const char *criu_config, bool loopback, struct st_error **err) {
        _cleanup_json_ json_t *config = json_deep_copy(plan->config);
        _cleanup_free_ char *path = NULL, *text = NULL;
        json_t *mount;
        size_t i;
        int r;

        if (criu_config)
                json_object_set_new(member(config, "annotations", json_object()), RUNC_CRIU_CONFIG,
                                    json_string(criu_config));
        if (loopback)
                add_hook(config);
        make_absolute(json_object_get(config, "root"), "path", plan->bundle);
        json_array_foreach(json_object_get(config, "mounts"), i, mount) {
                if (runc_is_bind_mount(mount))
                        make_absolute(mount, "source", plan->bundle);
        }

        free(plan->bundle_used);
        plan->bundle_used = util_printf("%s/bundle", st_operation_work_dir(plan->operation));
        if (mkdir(plan->bundle_used, 0700) < 0)
                return st_error_errno(err, errno, "cannot make %s", plan->bundle_used);
        path = util_printf("%s/config.json", plan->bundle_used);
        text = json_dumps(config, JSON_COMPACT);
        r = util_write_new(path, text, strlen(text));
        return r < 0 ? st_error_errno(err, r, "cannot write %s", path) : 0;
}

/** What CRIU is to do and runc has no flag for. @param ret "" when there is nothing; malloc'ed */
static int make_criu_lines(struct runc_plan *plan, char **ret, struct st_error **err) {
        const Criu__CriuOpts *given = plan->given;
        _cleanup_list_ struct util_list lines = { 0 };
        _cleanup_free_ char *text = NULL;
        Criu__CriuOpts rest = *given; /* only numbers are changed in it: its texts stay those of `given` */
        int r;

        rest.has_tcp_established = rest.has_ext_unix_sk = rest.has_shell_job = rest.has_file_locks = 0;
        r = st_criu_config(&rest, true, &text, err);
        if (r >= 0)
                r = runc_mounts_supply(plan->operation, json_object_get(plan->saved, "mounts"), &lines, &plan->made,
                                       err);
        if (r < 0)
                return r;
        if (given->has_leave_stopped && given->leave_stopped)
                util_list_add(&lines, "leave-stopped");
        for (size_t i = 0; i < lines.n; i++) {
                char *longer = util_printf("%s%s\n", text, lines.items[i]);
                free(text);
                text = longer;
        }
        *ret = TAKE_PTR(text);
        return 0;
}

int runc_bundle_prepare(struct runc_plan *plan, struct st_error **err) {
        _cleanup_free_ char *path = util_printf("%s/criu.conf", st_operation_work_dir(plan->operation)), *lines = NULL;
        const char *configured = util_json_text(plan->config, "annotations", RUNC_CRIU_CONFIG, NULL), *joined;
        bool loopback;
        int r;

        if (!runc_engine.has_state_file)
                return 0;
        loopback = runc_has_namespace(plan->config, "network", &joined) && isempty(joined);
        r = make_criu_lines(plan, &lines, err);
        if (r >= 0 && !isempty(lines))
                r = runc_write_criu_config(path, "", configured, lines, err);
        if (r < 0 || (isempty(lines) && !loopback))
                return r;
        return make_bundle(plan, isempty(lines) ? NULL : path, loopback, err);
}

static void correct_labels(const struct runc_plan *plan, json_t *config) {
        const char *own = util_json_text(plan->config, "annotations", RUNC_CRIU_CONFIG, NULL);
        json_t *kept = json_array(), *label;
        _cleanup_free_ char *bundle = util_printf("bundle=%s", plan->bundle);
        size_t i;

        json_array_foreach(json_object_get(config, "labels"), i, label) {
                const char *said = json_string_value(label) ?: "";
                if (strncmp(said, "bundle=", strlen("bundle=")) != 0 &&
                    strncmp(said, RUNC_CRIU_CONFIG "=", strlen(RUNC_CRIU_CONFIG "=")) != 0)
                        json_array_append(kept, label);
        }
        if (own) {
                _cleanup_free_ char *annotation = util_printf(RUNC_CRIU_CONFIG "=%s", own);
                json_array_append_new(kept, json_string(annotation));
        }
        json_array_append_new(kept, json_string(bundle));
        json_object_set_new(config, "labels", kept);
}

static void remove_hook(json_t *config) {
        json_t *hooks = util_json_get(config, "Hooks", "createRuntime", NULL), *hook;
        size_t i;

        json_array_foreach(hooks, i, hook) {
                const char *name = json_string_value(json_array_get(json_object_get(hook, "args"), 3));
                if (!name || !streq(name, HOOK_NAME))
                        continue;
                json_array_remove(hooks, i);
                return;
        }
}

void runc_bundle_correct(const struct runc_plan *plan) {
        _cleanup_free_ char *path = util_printf("%s/%s/state.json", plan->root, plan->id), *text = NULL,
                            *changed = NULL;
        size_t size;
        int r;

        if (streq(plan->bundle, plan->bundle_used) || util_read_file(path, RUNC_JSON_MAX, &text, &size) < 0)
                return; /* a container that has ended meanwhile has no state any more */
        _cleanup_json_ json_t *state = json_loadb(text, size, 0, NULL);
        json_t *config = json_object_get(state, "config");
        if (!json_is_object(config))
                return;
        correct_labels(plan, config);
        remove_hook(config);
        changed = json_dumps(state, JSON_COMPACT);
        r = changed ? util_replace_file(path, changed, strlen(changed)) : -ENOMEM;
        if (r < 0 && r != -ENOENT)
                st_log_warning("%s still names the bundle %s", path, plan->bundle_used);
}
