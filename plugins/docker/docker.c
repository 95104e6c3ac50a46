/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Docker containers, by the API of their engine: what this plugin exports. The commands are here; what does the work is
 * in docker_part.c and loaded when it is called.
 */

#include <errno.h>
#include <signal.h>

#include <stasis/plugin.h>

#include "docker_command.h"
#include "docker_query.h"

/* The part exports features of its own; those here pass every call on to them. */
#define CALL_PART(err, call)                                                       \
        do {                                                                       \
                const struct st_features *part = st_plugin_part("docker", (err));  \
                                                                                   \
                return part ? part->call : (err) ? st_error_number(*(err)) : -EIO; \
        } while (0)

static int find(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        CALL_PART(err, dump_middleware->adapters[0].run(dump, next, err));
}

static int dump_run(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        CALL_PART(err, dump_handler->run(dump, next, err));
}

static int restore_run(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        CALL_PART(err, restore_handler->run(restore, next, err));
}

static int freeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                  struct st_error **err) {
        CALL_PART(err, freeze_handler->run(operation, req, resp, err));
}

static int unfreeze(struct st_operation *operation, const Daemon__DumpReq *req, Daemon__DumpResp *resp,
                    struct st_error **err) {
        CALL_PART(err, unfreeze_handler->run(operation, req, resp, err));
}

static int query(struct st_operation *operation, const Daemon__QueryReq *req, Daemon__QueryResp *resp,
                 struct st_error **err) {
        CALL_PART(err, query_handler->run(operation, req, resp, err));
}

int docker_query_print(const struct st_arguments *arguments, const Daemon__QueryResp *resp, struct st_error **err) {
        CALL_PART(err, query_command->print(arguments, resp, err));
}

static int run_run(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        CALL_PART(err, run_handler->run(run, next, err));
}

static int manage_run(struct st_run *run, struct st_run_next *next, struct st_error **err) {
        CALL_PART(err, manage_handler->run(run, next, err));
}

static int clean_up(const Daemon__Details *details, struct st_error **err) {
        CALL_PART(err, cleanup->run(details, err));
}

static int follow(const struct st_arguments *arguments, struct st_error **err) {
        CALL_PART(err, helper_commands->helpers[0].run(arguments, err));
}

static int check(struct st_operation *operation, bool full, Daemon__HealthCheckResult *result, struct st_error **err) {
        CALL_PART(err, health_checks->checks[0].run(operation, full, result, err));
}

static const struct st_dump_adapter dump_list[] = { { "find container", find } };

static const struct st_dump_adapters dump_middleware = { sizeof(dump_list) / sizeof(*dump_list), dump_list };
static const struct st_dump_adapter dump_handler = { "docker checkpoint", dump_run };
static const struct st_restore_adapter restore_handler = { "docker start", restore_run };
static const struct st_freezer freeze_handler = { freeze };
static const struct st_freezer unfreeze_handler = { unfreeze };
static const struct st_query_handler query_handler = { query };
static const struct st_run_adapter run_handler = { "docker run", run_run };
static const struct st_run_adapter manage_handler = { "find container", manage_run };
static const struct st_cleanup cleanup = { clean_up };
static const struct st_helper helper_list[] = { { DOCKER_FOLLOW_COMMAND, follow } };
static const struct st_helpers helpers = { sizeof(helper_list) / sizeof(*helper_list), helper_list };
static const struct st_kill_signal kill_signal = { SIGTERM };
static const struct st_health_check check_list[] = { { "docker", check } };
static const struct st_health_checks health_checks = { sizeof(check_list) / sizeof(*check_list), check_list };

/*
 * CRIU reads those that have no flag of runc in a file that all containers share: so these are they that do no harm to
 * others.
 */
static const char *const dump_options[] = { "tcp_established", "tcp_skip_in_flight", "file_locks", "link_remap",
                                            "ext_unix_sk",     "ghost_limit",        NULL };
static const char *const restore_options[] = { "files",           "out",         "attach",
                                               "tcp_established", "tcp_close",   "file_locks",
                                               "link_remap",      "ext_unix_sk", NULL };
static const struct st_handler_options handler_options = {
        .dump = dump_options,
        .restore = restore_options,
        .hint = "leave it out; what a container changed of its files is always in its checkpoint, and options of CRIU "
                "for all containers go to /etc/criu/runc.conf",
};

static const struct st_features features = {
        .size = sizeof(struct st_features),
        ST_FEATURE(dump_command, docker_dump_command),
        ST_FEATURE(restore_command, docker_restore_command),
        ST_FEATURE(freeze_command, docker_freeze_command),
        ST_FEATURE(unfreeze_command, docker_unfreeze_command),
        ST_FEATURE(run_command, docker_run_command),
        ST_FEATURE(manage_command, docker_manage_command),
        ST_FEATURE(query_command, docker_query_command),
        ST_FEATURE(helper_commands, helpers),
        ST_FEATURE(dump_middleware, dump_middleware),
        ST_FEATURE(dump_handler, dump_handler),
        ST_FEATURE(restore_handler, restore_handler),
        ST_FEATURE(freeze_handler, freeze_handler),
        ST_FEATURE(unfreeze_handler, unfreeze_handler),
        ST_FEATURE(run_handler, run_handler),
        ST_FEATURE(manage_handler, manage_handler),
        ST_FEATURE(kill_signal, kill_signal),
        ST_FEATURE(cleanup, cleanup),
        ST_FEATURE(query_handler, query_handler),
        ST_FEATURE(health_checks, health_checks),
        ST_FEATURE(handler_options, handler_options),
};

ST_PLUGIN("docker", "1.0", features, NULL, NULL);
