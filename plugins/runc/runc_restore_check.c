/* SPDX-License-Identifier: Apache-2.0 */

/* What stands in the way of a restore, looked at before anything runs. */

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include <stasis/checkpoint.h>

#include "runc_restore.h"

#define CGROUP_MAX ((size_t)1 << 20)

static int check_images(struct runc_plan *plan, struct st_error **err) {
        return st_restore_directory(plan->restore, &plan->images, err);
}

static int check_bundle(struct runc_plan *plan, struct st_error **err) {
        _cleanup_free_ char *path = util_printf("%s/config.json", plan->bundle), *text = NULL;
        bool named = !isempty(plan->details->bundle);
        struct stat st;
        size_t size;
        int r;

        if (stat(plan->bundle, &st) < 0) {
                int number = errno;

                st_error_errno(err, number, "the bundle %s%s", plan->bundle,
                               named ? "" : ", where the container had it, cannot be used");
                st_error_hint(err, "name a directory with config.json and its root file system with --bundle");
                return -number;
        }
        r = util_read_file(path, RUNC_JSON_MAX, &text, &size);
        if (r < 0) {
                st_error_errno(err, r, "cannot read %s", path);
                if (r == -ENOENT && plan->saved)
                        st_error_hint(err, "the checkpoint has the container's own as " RUNC_FILE_CONFIG
                                           ": 'stasis checkpoint export' it as a directory and copy it there");
                return r;
        }
        plan->config = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(plan->config))
                return st_error_set(err, EINVAL, "%s is no JSON object", path);
        plan->terminal = json_is_true(util_json_get(plan->config, "process", "terminal", NULL));
        return 0;
}

static int check_root(struct runc_plan *plan, struct st_error **err) {
        const char *path = util_json_text(plan->config, "root", "path", NULL);
        _cleanup_free_ char *root = util_absolute(isempty(path) ? "rootfs" : path, plan->bundle);
        struct stat st;

        if (stat(root, &st) < 0)
                return st_error_errno(err, errno, "its root file system %s", root);
        if (!S_ISDIR(st.st_mode))
                return st_error_set(err, ENOTDIR, "its root file system %s is no directory", root);
        return 0;
}

static int check_id(struct runc_plan *plan, struct st_error **err) {
        _cleanup_container_ struct runc_container container = { 0 };

        if (!runc_exists(plan->root, plan->id))
                return 0;
        if (runc_is_unfinished(plan->root, plan->id)) {
                st_error_set(err, EEXIST, "container %s is being made or restored, or that was killed", plan->id);
                st_error_hint(
                        err,
                        "wait; if nobody is at it, see that nothing is mounted below %s/%s (umount), and only then "
                        "'%s --root %s delete %s', which removes the files of the bundle through such a mount",
                        plan->root, plan->id, runc_engine.name, plan->root, plan->id);
                return -EEXIST;
        }
        if (runc_container_load(plan->root, plan->id, &container, NULL) < 0 || container.pid == 0) {
                st_error_set(err, EEXIST, "there is a container %s already, which has ended", plan->id);
                st_error_hint(err, "remove it by '%s --root %s delete %s', or take another name with --id",
                              runc_engine.name, plan->root, plan->id);
        } else {
                st_error_set(err, EEXIST, "there is a container %s already: it is %s, its process is %d", plan->id,
                             runc_status_name(container.status), (int)container.pid);
                st_error_hint(err, "end it, or take another name with --id");
        }
        return -EEXIST;
}

static int check_mounts(struct runc_plan *plan, struct st_error **err) {
        json_t *mounts = json_object_get(plan->config, "mounts"), *mount;
        size_t i;

        json_array_foreach(mounts, i, mount) {
                const char *source = util_json_text(mount, "source", NULL);
                const char *destination = util_json_text(mount, "destination", NULL);

                if (isempty(source) || !runc_is_bind_mount(mount))
                        continue;
                _cleanup_free_ char *path = util_absolute(source, plan->bundle);
                if (access(path, F_OK) < 0) {
                        int number = errno;

                        st_error_errno(err, number, "%s, which the container has at %s", path, destination ?: "?");
                        st_error_hint(err, "make it again, or name another in %s/config.json", plan->bundle);
                        return -number;
                }
        }
        return 0;
}

bool runc_has_namespace(const json_t *config, const char *type, const char **ret_path) {
        json_t *list = util_json_get(config, "linux", "namespaces", NULL), *item;
        size_t i;

        *ret_path = NULL;
        json_array_foreach(list, i, item) {
                const char *named = util_json_text(item, "type", NULL);

                if (!named || !streq(named, type))
                        continue;
                *ret_path = util_json_text(item, "path", NULL);
                return true;
        }
        return false;
}

static int check_namespaces(struct runc_plan *plan, struct st_error **err) {
        const Daemon__ProcessState *state = plan->restore->state;
        json_t *list = util_json_get(plan->config, "linux", "namespaces", NULL), *item;
        const char *path;
        size_t i;

        json_array_foreach(list, i, item) {
                path = util_json_text(item, "path", NULL);
                if (isempty(path) || access(path, F_OK) == 0)
                        continue;
                int number = errno;
                st_error_errno(err, number, "its %s namespace %s", util_json_text(item, "type", NULL) ?: "?", path);
                st_error_hint(err, "make it before the restore: 'ip netns add NAME' makes /run/netns/NAME");
                return -number;
        }
        if (!runc_has_namespace(plan->config, "pid", &path) && state && state->has_pid &&
            kill((pid_t)state->pid, 0) == 0) {
                st_error_set(err, EBUSY,
                             "its PID %u is taken by another process, and it has no PID namespace of its own",
                             state->pid);
                st_error_hint(err, "end that process; a container that is to be cloned needs a PID namespace");
                return -EBUSY;
        }
        return 0;
}

/** A process in the cgroup of that path, in whatever hierarchy; 0: none, or no such cgroup. */
static long find_member(const char *path) {
        static const char *const hierarchies[] = { "", "/unified", "/freezer", "/memory", "/pids", "/cpu", "/systemd" };

        for (size_t i = 0; i < ELEMENTSOF(hierarchies); i++) {
                _cleanup_free_ char *file = util_printf("/sys/fs/cgroup%s/%s/cgroup.procs", hierarchies[i], path);
                _cleanup_free_ char *text = NULL;

                if (util_read_file(file, CGROUP_MAX, &text, NULL) == 0 && *text)
                        return strtol(text, NULL, 10);
        }
        return 0;
}

static int check_cgroup(struct runc_plan *plan, struct st_error **err) {
        const char *path = util_json_text(plan->config, "linux", "cgroupsPath", NULL);
        long pid;

        /* systemd's are named SLICE:PREFIX:NAME, and made by it. */
        if (isempty(path) || *path != '/' || (plan->details->has_systemdcgroup && plan->details->systemdcgroup))
                return 0;
        pid = find_member(path + 1);
        if (pid == 0)
                return 0;
        st_error_set(err, EBUSY, "its cgroup %s holds process %ld already", path, pid);
        st_error_hint(err, "a container beside the running one needs a bundle with another linux.cgroupsPath, or none");
        return -EBUSY;
}

static int check_terminal(struct runc_plan *plan, struct st_error **err) {
        if (plan->console_socket && !(plan->detach && plan->terminal)) {
                st_error_set(err, EINVAL, "--console-socket is for a container with a terminal, and with --detach");
                st_error_hint(err, plan->terminal ? "add --detach, or leave it out: then the terminal is looked after"
                                                  : "its config.json says \"terminal\": false");
                return -EINVAL;
        }
        if (plan->detach && plan->terminal && !plan->console_socket && st_operation_no_server(plan->operation)) {
                st_error_set(err, EINVAL, "the container has a terminal, and with --detach nobody is left to hold it");
                st_error_hint(err, "name a --console-socket, leave --detach out, or ask the daemon");
                return -EINVAL;
        }
        if (plan->console_socket && access(plan->console_socket, F_OK) < 0)
                return st_error_errno(err, errno, "the console socket %s", plan->console_socket);
        return 0;
}

static const struct {
        const char *name;
        int (*run)(struct runc_plan *plan, struct st_error **err);
        bool of_config; /* needs the config.json */
} checks[] = {
        { "images", check_images, false }, { "ID", check_id, false },
        { "bundle", check_bundle, false }, { "root file system", check_root, true },
        { "mounts", check_mounts, true },  { "namespaces", check_namespaces, true },
        { "cgroup", check_cgroup, true },  { "terminal", check_terminal, true },
};

int runc_restore_check(struct runc_plan *plan, struct st_error **err) {
        bool all = plan->restore->req->has_check && plan->restore->req->check;

        for (size_t i = 0; i < ELEMENTSOF(checks); i++) {
                _cleanup_error_ struct st_error *error = NULL;

                if (checks[i].of_config && !plan->config)
                        continue;
                if (checks[i].run(plan, &error) >= 0)
                        continue;
                if (!all)
                        return st_error_move(err, TAKE_PTR(error));
                st_restore_finding(plan->restore, DAEMON__FINDING_LEVEL__PROBLEM, checks[i].name, NULL,
                                   st_error_message(error), NULL);
        }
        return 0;
}
