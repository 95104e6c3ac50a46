/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_health.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/cleanup.h"
#include "docker_preflight.h"
#include "docker_root.h"
#include "docker_saved.h"
#include "docker_shim.h"
#include "docker_target.h"

/* Asking for the version comes before it, and what answers that within its limit is no engine that hangs. */
#define INFO_LIMIT 800

static void add_problems(Daemon__HealthCheckResult *result, const char *name, const char *data,
                         const struct docker_problems *problems) {
        if (problems->n == 0)
                st_health_add(result, name, data, NULL, NULL);
        for (size_t i = 0; i < problems->n; i++) {
                _cleanup_free_ char *text = NULL;
                const char *hint = problems->items[i].hint;

                if (asprintf(&text, "%s%s%s%s", problems->items[i].text ? problems->items[i].text : "",
                             hint ? " (hint: " : "", hint ? hint : "", hint ? ")" : "") < 0)
                        text = NULL;
                st_health_add(result, name, data, NULL, text);
        }
}

static void check_driver(Daemon__HealthCheckResult *result, const json_t *info) {
        const char *driver = docker_saved_text(info, "Driver", NULL);
        bool apart = driver && (strcmp(driver, "overlay2") == 0 || strcmp(driver, "overlayfs") == 0);

        st_health_add(result, "docker storage driver", driver, NULL,
                      apart ? NULL
                            : "it does not keep the files that a container changed apart: they will not be in a "
                              "checkpoint");
}

static void check_criu(Daemon__HealthCheckResult *result, const struct engine *engine) {
        _cleanup_problems_ struct docker_problems problems = { 0 };
        _cleanup_free_ char *criu = NULL;
        pid_t pid = 0;

        if (docker_root_listener(engine_address(engine), &pid, NULL) < 0 || pid <= 0)
                return;
        if (docker_shim_look_up(pid, "criu", &criu, NULL) == -ENOENT)
                docker_preflight_criu(pid, &problems);
        else if (!criu) /* whoever asks may not look at it */
                return;
        add_problems(result, "docker CRIU", criu, &problems);
}

/* Nobody listens there, and nobody asked for it: a machine without Docker. */
static bool is_absent(const struct engine *engine) {
        const char *address = engine_address(engine), *host = getenv("DOCKER_HOST");

        return (!host || !*host) && strncmp(address, "unix://", 7) == 0 && access(address + 7, F_OK) < 0 &&
               errno == ENOENT;
}

static void check_engine(Daemon__HealthCheckResult *result, const struct engine_version *version, const json_t *info) {
        _cleanup_problems_ struct docker_problems problems = { 0 };
        _cleanup_free_ char *data = NULL;

        if (asprintf(&data, "%s, API %s", version->version, version->api) < 0)
                data = NULL;
        docker_preflight_engine(version, info, &problems);
        add_problems(result, "docker engine", data, &problems);
        if (version->major >= DOCKER_NO_NETWORK_SINCE)
                st_health_add(
                        result, "docker networks", NULL, NULL,
                        "this version can start only containers with --network host from a checkpoint: others are "
                        "not dumped");
}

/* Docker is not needed for anything else: whatever is wrong with it is a warning. */
static int check(struct st_operation *operation, bool full, Daemon__HealthCheckResult *result, struct st_error **err) {
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_engine_ struct engine *engine = NULL;
        _cleanup_json_ json_t *info = NULL;
        struct engine_version version;
        int r = docker_engine_open(NULL, NULL, st_operation_cancel_fd(operation), &engine, err);

        (void)full;
        if (r < 0)
                return r;
        if (is_absent(engine)) {
                st_health_add(result, "docker engine", "none here", NULL, NULL);
                return 0;
        }
        r = engine_call(engine, "GET", "/info", NULL, INFO_LIMIT, &info, &error);
        if (r >= 0)
                r = engine_version(engine, &version, &error);
        if (r < 0) {
                st_health_add(result, "docker engine", engine_address(engine), NULL, st_error_message(error));
                return 0;
        }
        check_engine(result, &version, info);
        check_driver(result, info);
        check_criu(result, engine);
        return 0;
}

static const struct st_health_check checks[] = { { "docker", check } };

const struct st_health_checks docker_health_checks = { sizeof(checks) / sizeof(*checks), checks };
