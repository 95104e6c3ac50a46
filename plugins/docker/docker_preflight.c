/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_preflight.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/cleanup.h"
#include "docker_saved.h"
#include "docker_shim.h"
#include "docker_target.h"

void docker_problems_clear(struct docker_problems *problems) {
        for (size_t i = 0; i < problems->n; i++) {
                free(problems->items[i].text);
                free(problems->items[i].hint);
        }
        problems->n = 0;
}

/* Adds one; hint may be NULL. */
__attribute__((format(printf, 4, 5))) static void add(struct docker_problems *problems, int number, const char *hint,
                                                      const char *format, ...) {
        struct docker_problem problem = { .number = number };
        va_list ap;

        if (problems->n == DOCKER_PROBLEMS_MAX)
                return;
        va_start(ap, format);
        if (vasprintf(&problem.text, format, ap) < 0)
                problem.text = NULL;
        va_end(ap);
        problem.hint = hint ? strdup(hint) : NULL;
        problems->items[problems->n++] = problem;
}

static char *join(const struct docker_problems *problems, bool hints) {
        char *all = NULL;

        for (size_t i = 0; i < problems->n; i++) {
                const char *text = hints ? problems->items[i].hint : problems->items[i].text;
                char *more;

                if (!text && hints)
                        continue;
                if (asprintf(&more, "%s%s%s", all ? all : "", all ? "; " : "", text ? text : "out of memory") < 0)
                        break;
                free(all);
                all = more;
        }
        return all;
}

int docker_problems_error(const struct docker_problems *problems, struct st_error **err) {
        _cleanup_free_ char *texts = join(problems, false), *hints = join(problems, true);
        int r;

        if (problems->n == 0)
                return 0;
        if (problems->n == 1)
                r = st_error_set(err, problems->items[0].number, "%s", texts ? texts : "out of memory");
        else
                r = st_error_set(err, problems->items[0].number, "%zu problems: %s", problems->n,
                                 texts ? texts : "out of memory");
        if (hints)
                st_error_hint(err, "%s", hints);
        return r;
}

static bool has_security_option(const json_t *info, const char *option) {
        size_t index, length = strlen(option);
        json_t *value;

        json_array_foreach(json_object_get(info, "SecurityOptions"), index, value) {
                const char *text = json_string_value(value);
                if (text && strncmp(text, option, length) == 0 && (text[length] == 0 || text[length] == ','))
                        return true;
        }
        return false;
}

void docker_preflight_engine(const struct engine_version *version, const json_t *info,
                             struct docker_problems *problems) {
        const char *os = docker_saved_text(info, "OSType", NULL);

        if (!version->experimental)
                add(problems, EOPNOTSUPP,
                    "put {\"experimental\": true} into /etc/docker/daemon.json and restart dockerd; containers end "
                    "then, unless it has live-restore",
                    "the engine's experimental features are off, and checkpoints are one of them");
        if (os && strcmp(os, "linux") != 0)
                add(problems, EOPNOTSUPP, NULL, "its containers are of %s: CRIU knows Linux only", os);
        if (has_security_option(info, "name=rootless"))
                add(problems, EPERM, "use an engine that root runs",
                    "the engine is rootless: its CRIU may not checkpoint");
}

/* Which program runs the container; NULL: not known. */
static const char *runtime_path(const json_t *info, const char *runtime) {
        const char *path = docker_saved_text(info, "Runtimes", runtime, "path", NULL);

        return path ? path : runtime;
}

static void check_runtime(const json_t *info, const json_t *inspect, struct docker_problems *problems) {
        const char *runtime = docker_saved_text(inspect, "HostConfig", "Runtime", NULL);
        const char *path = runtime ? runtime_path(info, runtime) : NULL;

        /* They run the container's processes in a kernel of their own. */
        if (path && (strstr(path, "kata") || strstr(path, "runsc")))
                add(problems, EOPNOTSUPP, "run the container with runc", "its runtime %s does not work with CRIU",
                    runtime);
}

static void check_network(const struct engine_version *version, const json_t *inspect,
                          struct docker_problems *problems) {
        const char *mode = docker_saved_text(inspect, "HostConfig", "NetworkMode", NULL);

        if (version->major >= DOCKER_NO_NETWORK_SINCE &&
            (!mode || (strcmp(mode, "host") != 0 && strncmp(mode, "container:", strlen("container:")) != 0)))
                add(problems, EOPNOTSUPP, "use Docker 27 or older, run the container with --network host, or use runc",
                    "Docker %s cannot start a container of network mode %s from a checkpoint (it looks for the "
                    "network of process 0)",
                    version->version, mode && *mode ? mode : "default");
}

void docker_preflight_container(const struct engine_version *version, const json_t *info, const json_t *inspect,
                                bool stop, struct docker_problems *problems) {
        check_runtime(info, inspect, problems);
        check_network(version, inspect, problems);
        if (stop && docker_saved_text(inspect, "Config", "Labels", "com.docker.swarm.service.id", NULL))
                add(problems, EBUSY, "leave it running, or scale the service down first",
                    "it is a task of a swarm service, which would start another in its place");
}

void docker_preflight_criu(pid_t pid, struct docker_problems *problems) {
        _cleanup_free_ char *criu = NULL, *path = NULL, *hint = NULL;

        if (pid <= 0 || docker_shim_look_up(pid, "criu", &criu, &path) != -ENOENT)
                return;
        if (asprintf(&hint, "install it there; the PATH of containerd is %s", path ? path : "not set") < 0)
                hint = NULL;
        add(problems, ENOENT, hint, "the engine finds no criu");
}
