/* SPDX-License-Identifier: Apache-2.0 */

/* Health checks: those of stasis itself in groups, and what the plugins check. All at once, none for more than 2 s. */

#include "engine/health.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <stasis/features.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/engine.h"
#include "plugin/registry.h"

/* Less room than this for checkpoints is worth a warning. */
#define SPACE_LOW (1ull << 30)

/* More than these there are not, built-in groups and plugins together. */
#define GROUPS_MAX 64

/** A group on its way. It belongs to its thread and to the one that waits; who lets go last frees it. */
struct group {
        struct health health;
        void (*run)(struct health *health); /* a group of ours … */
        const char *plugin;                 /* … or a check of a plugin */
        struct st_health_check check;
        struct st_operation *operation;
        char *name; /* of the result */
        atomic_int owners;
        pthread_t thread;
        bool started;
};

struct groups {
        struct group *items[GROUPS_MAX];
        size_t n;
        struct st_operation *operation;
        bool full;
};

void st_health_add(Daemon__HealthCheckResult *result, const char *name, const char *data, const char *error,
                   const char *warning) {
        Daemon__HealthCheckComponent *component = message_new(&daemon__health_check_component__descriptor);

        component->name = xstrdup(name);
        component->data = data ? xstrdup(data) : NULL;
        if (error)
                message_append(&component->n_errors, &component->errors, xstrdup(error));
        if (warning)
                message_append(&component->n_warnings, &component->warnings, xstrdup(warning));
        message_append(&result->n_components, &result->components, component);
}

/** @return the nearest directory at or above the path that exists: it is made when it is first needed; malloc'ed */
static char *nearest_existing(const char *path) {
        char *existing = xstrdup(path);

        while (access(existing, F_OK) < 0 && !streq(existing, "/")) {
                char *parent = path_directory(existing);
                free(existing);
                existing = parent;
        }
        return existing;
}

static void check_directory(struct health *health, const char *name, const char *path, bool room) {
        _cleanup_free_ char *existing = nearest_existing(path), *free_text = NULL, *problem = NULL;
        struct statvfs fs;

        if (access(existing, W_OK) < 0 || statvfs(existing, &fs) < 0) {
                problem = xasprintf("cannot write to %s: %s", existing, strerror(errno));
                health_require(health, name, path, problem);
                return;
        }
        health_require(health, name, path, NULL);
        if (!room)
                return;
        uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize;
        free_text = text_from_size(available);
        health_warn(health, "free space", free_text,
                    available < SPACE_LOW ? "little room for checkpoints: free some, or set Checkpoint.Dir" : NULL);
}

void health_directories(struct health *health) {
        check_directory(health, "checkpoints", health->checkpoints, true);
        if (!health->full)
                return;
        check_directory(health, "sockets, records", path_run_dir(), false);
        check_directory(health, "logs of failures", path_log_dir(), false);
}

static void group_release(struct group *group) {
        if (atomic_fetch_sub(&group->owners, 1) > 1)
                return;
        message_freep(&group->health.result);
        free(group->health.criu);
        free(group->health.checkpoints);
        free(group->name);
        free(group);
}

static void run_plugin_check(struct group *group) {
        _cleanup_error_ struct st_error *error = NULL;

        registry_set_running(group->plugin, group->check.name);
        if (group->check.run(group->operation, group->health.full, group->health.result, &error) < 0)
                st_health_add(group->health.result, group->check.name, NULL, st_error_message(error), NULL);
        registry_set_running(NULL, NULL);
}

static void *group_thread(void *userdata) {
        struct group *group = userdata;

        if (group->run)
                group->run(&group->health);
        else
                run_plugin_check(group);
        group_release(group);
        return NULL;
}

static struct group *group_new(struct groups *groups, const char *name) {
        const struct st_arguments *config = st_operation_config(groups->operation);
        const char *criu = st_arguments_string(config, "CRIU.BinaryPath");
        struct group *group;

        if (groups->n == GROUPS_MAX)
                return NULL;
        group = groups->items[groups->n++] = NEW(struct group);
        group->name = xstrdup(name);
        group->operation = groups->operation;
        group->health = (struct health){
                .result = message_new(&daemon__health_check_result__descriptor),
                .full = groups->full,
                .criu = criu ? xstrdup(criu) : NULL,
                .checkpoints = xstrdup(st_arguments_string(config, "Checkpoint.Dir")),
        };
        group->health.result->name = xstrdup(name);
        return group;
}

static void add_group(struct groups *groups, const char *name, void (*run)(struct health *health)) {
        struct group *group = group_new(groups, name);

        if (group)
                group->run = run;
}

static int add_plugin(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_health_checks *checks = value;

        (void)err;
        for (size_t i = 0; i < checks->n; i++) {
                struct group *group = group_new(userdata, plugin);
                if (group) {
                        group->plugin = plugin;
                        group->check = checks->checks[i];
                }
        }
        return 0;
}

static void check_plugins(struct health *health) {
        for (size_t i = 0; i < registry_count(); i++) {
                const struct plugin_entry *entry = registry_get(i);
                health_warn(health, entry->name, entry->version, entry->error);
        }
}

static void start(struct group *group) {
        atomic_store(&group->owners, 2);
        group->started = pthread_create(&group->thread, NULL, group_thread, group) == 0;
        if (!group->started)
                group_release(group);
}

/** Takes a group's answer, or says that there was none. Releases our share of it. */
static void finish(struct group *group, const struct timespec *deadline, Daemon__HealthCheckResp *resp) {
        Daemon__HealthCheckResult *result;

        if (group->started && pthread_clockjoin_np(group->thread, NULL, CLOCK_MONOTONIC, deadline) == 0) {
                result = group->health.result;
                group->health.result = NULL;
        } else {
                result = message_new(&daemon__health_check_result__descriptor);
                result->name = xstrdup(group->name);
                st_health_add(result, group->plugin ? group->check.name : group->name, NULL,
                              group->started ? "no answer within 2 seconds: something it asks is hanging"
                                             : "cannot be checked: there is no thread for it",
                              NULL);
                if (group->started)
                        (void)pthread_detach(group->thread);
        }
        message_append(&resp->n_results, &resp->results, result);
        group_release(group);
}

int engine_health(struct st_operation *operation, const Daemon__HealthCheckReq *req, Daemon__HealthCheckResp *resp,
                  struct st_error **err) {
        struct groups groups = { .operation = operation, .full = req->has_full && req->full };
        struct timespec deadline;

        (void)err;
        add_group(&groups, "criu", health_criu);
        add_group(&groups, "system", health_kernel);
        add_group(&groups, "storage", health_directories);
        if (groups.full)
                add_group(&groups, "limits", health_limits);
        if (registry_count() > 0)
                add_group(&groups, "plugins", check_plugins);
        (void)feature_if_available(health_checks, add_plugin, &groups, NULL);

        clock_gettime(CLOCK_MONOTONIC, &deadline);
        deadline.tv_sec += HEALTH_LIMIT_MS / 1000;
        for (size_t i = 0; i < groups.n; i++)
                start(groups.items[i]);
        for (size_t i = 0; i < groups.n; i++)
                finish(groups.items[i], &deadline, resp);
        return 0;
}
