/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The ONE list of what a plugin can export. A row is: name, C type, description. The enum, struct st_features, the
 * table of `stasis features` and the typed accessors are all made from it. New rows go to the end, and raise the ABI's
 * minor version (see plugin.h).
 */

#include <stddef.h>

#include <stasis/command.h>
#include <stasis/dump.h>
#include <stasis/error.h>
#include <stasis/health.h>
#include <stasis/query.h>
#include <stasis/restore.h>
#include <stasis/run.h>

/** Colours and symbols of the command line; NULL fields keep the built-in ones. */
struct st_theme {
        const char *ok, *bad, *warning, *dim; /* terminal escape sequences, without the reset */
};

/** A further command of its own, `stasis NAME …`; returns the exit code. Runs in the client. */
struct st_helper {
        struct st_command command;
        int (*run)(const struct st_arguments *arguments, struct st_error **err);
};

struct st_helpers {
        size_t n;
        const struct st_helper *helpers;
};

/** Adapters that the chain slots in for requests of the plugin's type, outermost first. */
struct st_dump_adapters {
        size_t n;
        const struct st_dump_adapter *adapters;
};

struct st_restore_adapters {
        size_t n;
        const struct st_restore_adapter *adapters;
};

struct st_run_adapters {
        size_t n;
        const struct st_run_adapter *adapters;
};

/** Freezes or unfreezes a target: nothing of the dump's chain runs around it but validation. */
struct st_freezer {
        int (*run)(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                   struct st_error **err);
};

struct st_query_handler {
        st_query_fn run;
};

/** Which signal ends a job of the plugin's type gently. */
struct st_kill_signal {
        int number;
};

/** Removes what a job of the plugin's type left behind, once it is deleted. */
struct st_cleanup {
        int (*run)(const Daemon__Details *details, struct st_error **err);
};

/** Does the plugin's job type end its processes itself, so that nobody else may wait for them? */
struct st_reaper {
        int (*run)(const Daemon__Details *details, pid_t pid, struct st_error **err);
};

struct st_health_check {
        const char *name;
        st_health_fn run;
};

struct st_health_checks {
        size_t n;
        const struct st_health_check *checks;
};

/**
 * A place for checkpoints, chosen by the URL scheme of --dir ("s3" for s3://…). The engine writes a checkpoint to a
 * local path first; nothing remote happens while a target is frozen.
 */
struct st_storage {
        const char *scheme;
        /** Puts the finished local file or directory `path` under `url`. All or nothing. */
        int (*put)(struct st_operation *operation, const char *path, const char *url, struct st_error **err);
        /** Brings what is at `url` to the local `path`, which does not exist yet. */
        int (*get)(struct st_operation *operation, const char *url, const char *path, struct st_error **err);
};

/**
 * Which of the options of the host's own `dump` and `restore` the plugin's handlers carry out, of those that nobody
 * else can: whatever else of them is asked for is refused before anything is touched. Without this feature nothing is.
 * Since 1.3.
 *
 * The lists end with NULL; NULL for a list: none. Of a dump: "files"; of a restore: "files", "out", "attach", as they
 * are on the command line; with "=VALUE" for that value only. Of both: fields of CRIU's criu_opts ("tcp_established");
 * "criu": all of them, the handler itself refuses those that it cannot have.
 */
struct st_handler_options {
        const char *const *dump, *const *restore;
        const char *hint; /* what to do in the place of what is refused; NULL: to leave it out */
};

/* clang-format off */
#define ST_FEATURES(X)                                                                                      \
        X(theme, struct st_theme, "colours and symbols of the command line")                                \
        X(dump_command, struct st_dump_command, "command: dump TYPE")                                       \
        X(restore_command, struct st_restore_command, "command: restore TYPE")                              \
        X(freeze_command, struct st_dump_command, "command: freeze TYPE")                                   \
        X(unfreeze_command, struct st_dump_command, "command: unfreeze TYPE")                               \
        X(run_command, struct st_run_command, "command: run TYPE")                                          \
        X(manage_command, struct st_run_command, "command: manage TYPE")                                    \
        X(query_command, struct st_query_command, "command: query TYPE")                                    \
        X(helper_commands, struct st_helpers, "further commands")                                           \
        X(dump_middleware, struct st_dump_adapters, "adapters of the dump")                                 \
        X(dump_handler, struct st_dump_adapter, "handler of the dump, in the place of CRIU")                \
        X(restore_middleware_early, struct st_restore_adapters, "adapters of the restore, before the state is loaded") \
        X(restore_middleware_late, struct st_restore_adapters, "adapters of the restore, after the state is loaded")   \
        X(restore_handler, struct st_restore_adapter, "handler of the restore, in the place of CRIU")       \
        X(freeze_handler, struct st_freezer, "freezing without a dump")                                     \
        X(unfreeze_handler, struct st_freezer, "unfreezing")                                                \
        X(run_handler, struct st_run_adapter, "handler of run")                                             \
        X(run_handler_no_server, struct st_run_adapter, "handler of run without the daemon")                \
        X(run_middleware_early, struct st_run_adapters, "adapters of run, before the job exists")           \
        X(run_middleware_late, struct st_run_adapters, "adapters of run, around the handler")               \
        X(kill_signal, struct st_kill_signal, "the signal that ends a job")                                 \
        X(cleanup, struct st_cleanup, "removing what a job left behind")                                    \
        X(reaper, struct st_reaper, "waiting for the processes of a job")                                   \
        X(manage_handler, struct st_run_adapter, "handler of manage")                                       \
        X(gpu_interception_run, struct st_run_adapter, "GPU interception of run")                           \
        X(gpu_interception_restore, struct st_restore_adapter, "GPU interception of restore")               \
        X(query_handler, struct st_query_handler, "answering queries")                                      \
        X(health_checks, struct st_health_checks, "health checks")                                          \
        X(storage, struct st_storage, "storage of checkpoints by URL")                                      \
        X(handler_options, struct st_handler_options, "options that the handlers carry out")

enum st_feature {
#define X(name, type, description) ST_FEATURE_##name,
        ST_FEATURES(X)
#undef X
        ST_FEATURE_COUNT
};

/** What a plugin exports: a pointer for each feature, NULL for those it has not. All static and constant. */
struct st_features {
        size_t size; /* sizeof(struct st_features) as the plugin was compiled */
#define X(name, type, description) const type *name;
        ST_FEATURES(X)
#undef X
};

#define X(name, type, description) typedef type st_feature_type_##name;
ST_FEATURES(X)
#undef X

/* clang-format on */

/** One entry of a struct st_features initialiser: ST_FEATURE(dump_command, value). Another C type does not compile. */
#define ST_FEATURE(name, value) \
        .name = _Generic((value), st_feature_type_##name : &(value), const st_feature_type_##name : &(value))

/**
 * Calls `call` for each loaded plugin that exports the feature, in the order of the plugins' names, until one call
 * fails.
 *
 * @param only NULL: every plugin; else a NULL-terminated list of plugin names
 * @return the result of the last call; -EOPNOTSUPP with err when no plugin (of those) exports the feature
 */
ST_PUBLIC int st_feature_if_available(enum st_feature feature,
                                      int (*call)(const char *plugin, const void *value, void *userdata,
                                                  struct st_error **err),
                                      void *userdata, const char *const *only, struct st_error **err);

/** feature_if_available(dump_command, call, userdata, err, "runc", …): with no name, every plugin. */
#define feature_if_available(feature, call, userdata, err, ...)           \
        st_feature_if_available(ST_FEATURE_##feature, (call), (userdata), \
                                (const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL }, (err))
