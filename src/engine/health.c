/* SPDX-License-Identifier: Apache-2.0 */

/* Health checks: CRIU, the kernel, the directories, and what the plugins check themselves. */

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <stasis/features.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "criu/criu.h"
#include "engine/engine.h"
#include "plugin/registry.h"

/* Less room than this for checkpoints is worth a warning. */
#define SPACE_LOW (1ull << 30)

void st_health_add(Daemon__HealthCheckResult *result, const char *name, const char *data, const char *error,
                   const char *warning) {
        Daemon__HealthCheckComponent *component = message_new(&daemon__health_check_component__descriptor);

        component->name = xstrdup(name);
        component->data = xstrdup(data);
        if (error)
                message_append(&component->n_errors, &component->errors, xstrdup(error));
        if (warning)
                message_append(&component->n_warnings, &component->warnings, xstrdup(warning));
        message_append(&result->n_components, &result->components, component);
}

static void check_criu(struct st_operation *operation, Daemon__HealthCheckResult *result) {
        const char *configured = st_arguments_string(st_operation_config(operation), "CRIU.BinaryPath");
        _cleanup_(criu_binary_freep) struct criu_binary *criu = NULL;
        _cleanup_error_ struct st_error *error = NULL;

        if (criu_find(configured, &criu, &error) < 0) {
                st_health_add(result, "CRIU", NULL, st_error_message(error), NULL);
                return;
        }
        st_health_add(result, "CRIU", criu->path, NULL, NULL);
        st_health_add(result, "version", criu->version, criu->working ? NULL : criu->problem, NULL);
}

/** The effective capabilities of this process, a bit each: capabilities(7). */
static uint64_t effective_capabilities(void) {
        _cleanup_free_ char *text = NULL;
        const char *at;

        if (io_read_file(AT_FDCWD, "/proc/self/status", 64 * 1024, &text, NULL) < 0 ||
            !(at = strstr(text, "\nCapEff:")))
                return 0;
        return strtoull(at + strlen("\nCapEff:"), NULL, 16);
}

static void check_kernel(Daemon__HealthCheckResult *result, bool full) {
        struct utsname name;

        if (uname(&name) == 0)
                st_health_add(result, "kernel", name.release, NULL, NULL);
        if (!full)
                return;

        static const struct {
                const char *name;
                int number;
                const char *problem;
        } capabilities[] = {
                { "CAP_SYS_ADMIN", CAP_SYS_ADMIN, "CRIU needs it: run the daemon as root" },
                { "CAP_SYS_PTRACE", CAP_SYS_PTRACE, "CRIU needs it: run the daemon as root" },
                { "CAP_NET_ADMIN", CAP_NET_ADMIN, "needed to lock TCP connections while they are dumped" },
                { "CAP_SYS_RESOURCE", CAP_SYS_RESOURCE, "raised limits of a process cannot be restored" },
        };
        uint64_t effective = effective_capabilities();
        for (size_t i = 0; i < ELEMENTSOF(capabilities); i++) {
                bool have = effective >> capabilities[i].number & 1;
                st_health_add(result, capabilities[i].name, have ? "yes" : "no", NULL,
                              have ? NULL : capabilities[i].problem);
        }
}

static void check_directory(Daemon__HealthCheckResult *result, const char *path) {
        _cleanup_free_ char *existing = xstrdup(path), *free_text = NULL;
        struct statvfs fs;

        /* It is made when the first checkpoint is: look at the nearest directory that exists. */
        while (access(existing, F_OK) < 0 && !streq(existing, "/")) {
                char *parent = path_directory(existing);
                free(existing);
                existing = parent;
        }
        if (access(existing, W_OK) < 0 || statvfs(existing, &fs) < 0) {
                _cleanup_free_ char *problem = xasprintf("cannot write to %s: %s", existing, strerror(errno));
                st_health_add(result, "checkpoints", path, problem, NULL);
                return;
        }
        uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize;
        free_text = text_from_size(available);
        st_health_add(result, "checkpoints", path, NULL, NULL);
        st_health_add(result, "free space", free_text, NULL,
                      available < SPACE_LOW ? "little room for checkpoints: free some, or set Checkpoint.Dir" : NULL);
}

static void check_streaming(Daemon__HealthCheckResult *result) {
        _cleanup_free_ char *size = NULL;

        if (io_read_file(AT_FDCWD, "/proc/sys/fs/pipe-max-size", 64, &size, NULL) >= 0) {
                size[strcspn(size, "\n")] = '\0';
                st_health_add(result, "pipe-max-size", size, NULL,
                              strtoull(size, NULL, 10) < (1u << 20)
                                      ? "small pipes make capture slow: sysctl fs.pipe-max-size=1048576"
                                      : NULL);
        }
}

static void check_plugins(Daemon__HealthCheckResult *result) {
        for (size_t i = 0; i < registry_count(); i++) {
                const struct plugin_entry *entry = registry_get(i);
                st_health_add(result, entry->name, entry->version, NULL, entry->error);
        }
}

struct plugin_health {
        struct st_operation *operation;
        Daemon__HealthCheckResp *resp;
        bool full;
};

static Daemon__HealthCheckResult *add_result(Daemon__HealthCheckResp *resp, const char *name) {
        Daemon__HealthCheckResult *result = message_new(&daemon__health_check_result__descriptor);

        result->name = xstrdup(name);
        message_append(&resp->n_results, &resp->results, result);
        return result;
}

static int run_plugin_checks(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_health_checks *checks = value;
        const struct plugin_health *health = userdata;
        Daemon__HealthCheckResult *result = add_result(health->resp, plugin);

        (void)err;
        for (size_t i = 0; i < checks->n; i++) {
                _cleanup_error_ struct st_error *error = NULL;

                registry_set_running(plugin, checks->checks[i].name);
                if (checks->checks[i].run(health->operation, health->full, result, &error) < 0)
                        st_health_add(result, checks->checks[i].name, NULL, st_error_message(error), NULL);
                registry_set_running(NULL, NULL);
        }
        return 0;
}

int engine_health(struct st_operation *operation, const Daemon__HealthCheckReq *req, Daemon__HealthCheckResp *resp,
                  struct st_error **err) {
        struct plugin_health health = { operation, resp, req->has_full && req->full };
        Daemon__HealthCheckResult *criu = add_result(resp, "criu"), *system = add_result(resp, "system");

        (void)err;
        check_criu(operation, criu);
        check_kernel(system, health.full);
        check_directory(system, st_arguments_string(st_operation_config(operation), "Checkpoint.Dir"));
        if (health.full)
                check_streaming(system);
        if (registry_count() > 0)
                check_plugins(add_result(resp, "plugins"));
        (void)feature_if_available(health_checks, run_plugin_checks, &health, NULL);
        return 0;
}
