/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Containers as they are now. runc's ROOT/ID/state.json is read directly, as runc itself does it (State of its
 * libcontainer); crun is asked.
 */

#include "runc.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include <stasis/child.h>

/* runc's own limit, and what a directory's name may be. */
#define ID_MAX_LENGTH 255

#define STATE_TIMEOUT_MS 10000

const char *runc_status_name(enum runc_status status) {
        static const char *const names[] = { "created", "running", "paused", "stopped" };

        return names[status];
}

void runc_container_clear(struct runc_container *container) {
        free(container->id);
        free(container->root);
        free(container->bundle);
        json_decref(container->state);
        json_decref(container->config);
        *container = (struct runc_container){ 0 };
}

int runc_check_id(const char *id, struct st_error **err) {
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";

        if (isempty(id) || strlen(id) > ID_MAX_LENGTH || id[strspn(id, allowed)] || streq(id, ".") || streq(id, "..")) {
                st_error_set(err, EINVAL, "'%.*s' is no ID of a container", ID_MAX_LENGTH, id ?: "");
                st_error_hint(err, "it is made of letters, digits and _ + - .");
                return -EINVAL;
        }
        return 0;
}

char *runc_root(const char *root, const char *working_dir) {
        const char *runtime = getenv("XDG_RUNTIME_DIR");

        if (!isempty(root))
                return util_absolute(root, working_dir);
        if (geteuid() != 0 && !isempty(runtime))
                return util_printf("%s/%s", runtime, runc_engine.name);
        return util_strdup(runc_engine.root);
}

bool runc_exists(const char *root, const char *id) {
        _cleanup_free_ char *path = util_printf("%s/%s", root, id);

        return access(path, F_OK) == 0;
}

/** Is it the process that it was? Field 22 of /proc/PID/stat, in clock ticks, is runc's init_process_start. */
static bool is_alive(pid_t pid, uint64_t start) {
        _cleanup_free_ char *path = util_printf("/proc/%d/stat", (int)pid), *text = NULL;
        char *at;
        char state;

        if (pid <= 0 || util_read_file(path, 65536, &text, NULL) < 0)
                return false;
        at = strrchr(text, ')'); /* the name before it may hold anything */
        if (!at || at[1] != ' ')
                return false;
        state = at[2];
        at += 2;
        for (int field = 3; field < 22; field++) {
                at = strchr(at, ' ');
                if (!at)
                        return false;
                at++;
        }
        return state != 'Z' && state != 'X' && strtoull(at, NULL, 10) == start;
}

static bool file_says(const char *directory, const char *name, const char *text) {
        _cleanup_free_ char *path = directory ? util_printf("%s/%s", directory, name) : NULL, *value = NULL;

        return path && util_read_file(path, 4096, &value, NULL) == 0 && strncmp(value, text, strlen(text)) == 0;
}

static bool is_paused(const json_t *state) {
        return file_says(util_json_text(state, "cgroup_paths", "freezer", NULL), "freezer.state", "FR") || /* EEZING */
               file_says(util_json_text(state, "cgroup_paths", "", NULL), "cgroup.freeze", "1");
}

/** The value behind "KEY=" in a list of such texts. */
static const char *labelled(const json_t *list, const char *key) {
        size_t n = strlen(key), i;
        json_t *item;

        json_array_foreach((json_t *)list, i, item) {
                const char *text = json_string_value(item);
                if (text && strncmp(text, key, n) == 0 && text[n] == '=')
                        return text + n + 1;
        }
        return NULL;
}

const char *runc_variable(const json_t *config, const char *name) {
        return labelled(util_json_get(config, "process", "env", NULL), name);
}

static json_t *read_json(const char *path, int *ret, struct st_error **err) {
        _cleanup_free_ char *text = NULL;
        json_error_t error;
        json_t *json;
        size_t size;

        *ret = util_read_file(path, RUNC_JSON_MAX, &text, &size);
        if (*ret < 0) {
                st_error_errno(err, *ret, "cannot read %s", path);
                return NULL;
        }
        json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
        if (!json_is_object(json)) {
                json_decref(json);
                *ret = st_error_set(err, EBADMSG, "%s is no JSON object: %s", path, error.text);
                return NULL;
        }
        return json;
}

static int load_runc(struct runc_container *container, struct st_error **err) {
        _cleanup_free_ char *path = util_printf("%s/%s/state.json", container->root, container->id);
        _cleanup_free_ char *fifo = util_printf("%s/%s/exec.fifo", container->root, container->id);
        json_int_t pid;
        int r;

        container->state = read_json(path, &r, err);
        if (!container->state)
                return r;
        pid = json_integer_value(json_object_get(container->state, "init_process_pid"));
        if (pid < 0 || pid > INT_MAX)
                return st_error_set(err, EBADMSG, "%s: init_process_pid is no PID", path);
        container->bundle =
                util_strdup(labelled(util_json_get(container->state, "config", "labels", NULL), "bundle") ?: "");
        container->status = RUNC_STOPPED;
        if (is_alive((pid_t)pid,
                     (uint64_t)json_integer_value(json_object_get(container->state, "init_process_start")))) {
                container->pid = (pid_t)pid;
                container->status = access(fifo, F_OK) == 0       ? RUNC_CREATED
                                    : is_paused(container->state) ? RUNC_PAUSED
                                                                  : RUNC_RUNNING;
        }
        return 0;
}

/** `crun state ID`: the state of the runtime specification. */
static int load_crun(struct runc_container *container, struct st_error **err) {
        _cleanup_list_ struct util_list argv = { 0 };
        _cleanup_free_ char *output = NULL;
        const char *status;
        json_int_t pid;
        int code;

        runc_program(&argv, container->root);
        util_list_add(&argv, "state");
        util_list_add(&argv, container->id);
        const struct st_child child = { .size = sizeof(child), .path = argv.items[0], .argv = argv.items };

        code = st_child_run(&child, STATE_TIMEOUT_MS, -EBADF, &output, err);
        if (code < 0)
                return code;
        container->state = json_loads(output, 0, NULL);
        if (code != 0 || !json_is_object(container->state))
                return st_error_set(err, EIO, "%s does not tell the state of the container", runc_engine.name);
        pid = json_integer_value(json_object_get(container->state, "pid"));
        status = util_json_text(container->state, "status", NULL) ?: "";
        container->bundle = util_strdup(util_json_text(container->state, "bundle", NULL) ?: "");
        container->status = streq(status, "running")   ? RUNC_RUNNING
                            : streq(status, "paused")  ? RUNC_PAUSED
                            : streq(status, "created") ? RUNC_CREATED
                                                       : RUNC_STOPPED;
        if (container->status != RUNC_STOPPED && pid > 0 && pid <= INT_MAX)
                container->pid = (pid_t)pid;
        return 0;
}

int runc_container_load(const char *root, const char *id, struct runc_container *container, struct st_error **err) {
        _cleanup_free_ char *config = NULL;
        int r = runc_check_id(id, err);

        if (r < 0)
                return r;
        container->id = util_strdup(id);
        container->root = util_strdup(root);
        if (!runc_exists(root, id)) {
                st_error_set(err, ENOENT, "there is no container %s of %s in %s", id, runc_engine.name, root);
                st_error_hint(err, "'%s --root %s list' shows those that there are; another place is named with --root",
                              runc_engine.name, root);
                return -ENOENT;
        }
        r = runc_engine.has_state_file ? load_runc(container, err) : load_crun(container, err);
        if (r < 0)
                return st_error_wrap(err, "cannot read the state of container %s", id);
        config = util_printf("%s/config.json", container->bundle);
        container->config = read_json(config, &r, NULL);
        return 0;
}

int runc_container_find(const Daemon__Details *details, struct runc_container *container, struct st_error **err) {
        const Plugins__Runc__Runc *runc = details ? details->runc : NULL;
        _cleanup_free_ char *root = NULL;

        if (!runc || isempty(runc->id))
                return st_error_set(err, EINVAL, "the request names no container: Details.Runc.ID is missing");
        root = runc_root(runc->root, runc->workingdir);
        return runc_container_load(root, runc->id, container, err);
}

char *runc_state_save(const struct runc_container *container) {
        json_t *json = json_pack("{s:s,s:s,s:s}", "engine", runc_engine.name, "id", container->id, "bundle",
                                 container->bundle);
        json_t *labels = util_json_get(container->state, "config", "labels", NULL);
        json_t *descriptors = json_object_get(container->state, "external_descriptors");
        char *text;

        if (labels)
                json_object_set(json, "labels", labels);
        if (descriptors)
                json_object_set(json, "descriptors", descriptors);
        text = json_dumps(json, JSON_INDENT(1));
        json_decref(json);
        return text;
}
