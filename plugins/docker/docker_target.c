/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_target.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/cleanup.h"
#include "docker_preflight.h"
#include "docker_root.h"
#include "docker_saved.h"
#include "docker_shim.h"
#include "fdio.h"

/* Adapters and the handler of one dump run nested, on one thread. */
static _Thread_local struct docker_target *current;

struct docker_target *docker_target(void) {
        return current;
}

int docker_engine_open(const char *host, const char *cert_path, int cancel_fd, struct engine **ret,
                       struct st_error **err) {
        /* This process is here for one request. */
        if (cert_path && *cert_path &&
            (setenv("DOCKER_CERT_PATH", cert_path, 1) < 0 || setenv("DOCKER_TLS_VERIFY", "1", 1) < 0))
                return st_error_errno(err, errno, "cannot use the certificates in %s", cert_path);
        return engine_open(host && *host ? host : NULL, cancel_fd, ret, err);
}

const Plugins__Docker__Docker *docker_details(const Daemon__Details *details, struct st_error **err) {
        const Plugins__Docker__Docker *docker = details ? details->docker : NULL;

        if (!docker || !docker->id || !*docker->id) {
                st_error_set(err, EINVAL, "the request names no container: Details.Docker.ID is missing");
                return NULL;
        }
        return docker;
}

int docker_inspect(struct engine *engine, const char *container, json_t **ret, struct st_error **err) {
        int r = engine_container_inspect(engine, container, ret, err);

        if (r == -ENOENT)
                st_error_hint(err, "'stasis query docker' shows the containers there are");
        return r;
}

static const char *text_or_nothing(const char *text) {
        return text ? text : "";
}

const char *docker_inspect_name(const json_t *inspect) {
        const char *name = text_or_nothing(docker_saved_text(inspect, "Name", NULL));

        return *name == '/' ? name + 1 : name;
}

const char *docker_inspect_id(const json_t *inspect) {
        return text_or_nothing(docker_saved_text(inspect, "Id", NULL));
}

const char *docker_inspect_status(const json_t *inspect) {
        return text_or_nothing(docker_saved_text(inspect, "State", "Status", NULL));
}

pid_t docker_inspect_pid(const json_t *inspect) {
        json_int_t pid = json_integer_value(json_object_get(json_object_get(inspect, "State"), "Pid"));

        return pid > 0 && pid <= INT_MAX ? (pid_t)pid : 0;
}

static int check_state(const struct docker_target *target, struct st_error **err) {
        const char *status = docker_inspect_status(target->inspect);
        int r;

        if (strcmp(status, "running") == 0 || strcmp(status, "paused") == 0)
                return target->pid > 0 && *target->id
                               ? 0
                               : st_error_set(err, EPROTO,
                                              "the Docker engine says that the container runs, but not as which "
                                              "process");
        r = st_error_set(err, ESRCH, "it is %s: only what runs can be dumped", *status ? status : "in no known state");
        if (strcmp(status, "restarting") == 0)
                st_error_hint(err, "it ends again and again: see 'docker logs %s'", target->name);
        else if (strcmp(status, "exited") == 0 || strcmp(status, "created") == 0)
                st_error_hint(err, "start it: 'docker start %s'", target->name);
        return r;
}

/* A PID says nothing about a process of another machine; its cgroup has the container's ID. */
static int check_here(const struct docker_target *target, struct st_error **err) {
        char path[64], text[16384];
        ssize_t n;
        int r;

        snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)target->pid);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        text[n > 0 ? n : 0] = 0;
        if (n > 0 && strstr(text, target->id))
                return 0;
        r = st_error_set(err, EREMOTE,
                         "its process %d is not here: the engine at %s is another machine's, or in another PID "
                         "namespace",
                         (int)target->pid, engine_address(target->engine));
        st_error_hint(err, "run stasis where the engine runs");
        return r;
}

static int learn(struct docker_target *target, struct st_error **err) {
        int r = engine_version(target->engine, &target->version, err);

        if (r >= 0)
                r = docker_inspect(target->engine, target->details->id, &target->inspect, err);
        if (r < 0)
                return r;
        target->id = docker_inspect_id(target->inspect);
        target->name = docker_inspect_name(target->inspect);
        target->pid = docker_inspect_pid(target->inspect);
        target->paused = strcmp(docker_inspect_status(target->inspect), "paused") == 0;
        r = check_state(target, err);
        if (r >= 0)
                r = check_here(target, err);
        /* Not engine_info(): its limit is for an engine that is only slow. */
        if (r >= 0)
                r = engine_call(target->engine, "GET", "/info", NULL, ENGINE_SHORT, &target->info, err);
        if (r >= 0)
                r = docker_root_open(engine_address(target->engine), &target->root_fd, err);
        if (r < 0)
                return r;
        target->shim = docker_shim_of(target->pid);
        target->shim_fd = target->shim > 0 ? docker_shim_open(target->shim) : -EBADF;
        return 0;
}

static int preflight(const struct docker_target *target, bool stop, struct st_error **err) {
        _cleanup_problems_ struct docker_problems problems = { 0 };

        docker_preflight_engine(&target->version, target->info, &problems);
        docker_preflight_criu(target->shim, &problems);
        docker_preflight_container(&target->version, target->info, target->inspect, stop, &problems);
        return docker_problems_error(&problems, err);
}

static void clear(struct docker_target *target) {
        engine_close(target->engine);
        engine_close(target->firm);
        json_decref(target->info);
        json_decref(target->inspect);
        if (target->root_fd >= 0)
                close(target->root_fd);
        if (target->shim_fd >= 0)
                close(target->shim_fd);
}

int docker_target_find(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        __attribute__((cleanup(clear))) struct docker_target target = { .root_fd = -EBADF, .shim_fd = -EBADF };
        int r;

        target.details = docker_details(dump->req->details, err);
        if (!target.details)
                return -EINVAL;
        r = docker_engine_open(target.details->host, target.details->certpath, st_operation_cancel_fd(dump->operation),
                               &target.engine, err);
        if (r >= 0)
                r = docker_engine_open(target.details->host, target.details->certpath, -1, &target.firm, err);
        if (r >= 0)
                r = learn(&target, err);
        if (r >= 0)
                r = preflight(&target, dump->stop, err);
        if (r >= 0) {
                dump->pid = target.pid;
                current = &target;
                r = st_dump_proceed(next, dump, err);
                current = NULL;
        }
        return r < 0 ? st_error_wrap(err, "cannot dump the container %s", target.details->id) : r;
}
