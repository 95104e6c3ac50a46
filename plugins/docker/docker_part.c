/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What of the plugin needs the libraries of the engine's API and of archives. They take many times longer to load than
 * a command may take that has nothing to do with Docker: so this is a part of its own, and docker.c loads it when it is
 * called.
 */

#include <stasis/plugin.h>

#include "docker_dump.h"
#include "docker_follow.h"
#include "docker_freeze.h"
#include "docker_health.h"
#include "docker_query.h"
#include "docker_restore.h"
#include "docker_run.h"
#include "docker_target.h"

static const struct st_dump_adapter dump_list[] = { { "find container", docker_target_find } };

static const struct st_dump_adapters dump_middleware = { sizeof(dump_list) / sizeof(*dump_list), dump_list };
static const struct st_dump_adapter dump_handler = { "docker checkpoint", docker_dump_run };
static const struct st_restore_adapter restore_handler = { "docker start", docker_restore_run };
static const struct st_freezer freeze_handler = { docker_freeze };
static const struct st_freezer unfreeze_handler = { docker_unfreeze };
static const struct st_query_handler query_handler = { docker_query };
static const struct st_run_adapter run_handler = { "docker run", docker_run };
static const struct st_run_adapter manage_handler = { "find container", docker_manage };
static const struct st_cleanup cleanup = { docker_cleanup };
static const struct st_helper helper_list[] = { { .run = docker_follow } };
static const struct st_helpers helpers = { sizeof(helper_list) / sizeof(*helper_list), helper_list };
static const struct st_query_command query_command = { .print = docker_query_print };

ST_PUBLIC extern const struct st_features stasis_part;
const struct st_features stasis_part = {
        .size = sizeof(struct st_features),
        ST_FEATURE(query_command, query_command),
        ST_FEATURE(dump_middleware, dump_middleware),
        ST_FEATURE(dump_handler, dump_handler),
        ST_FEATURE(restore_handler, restore_handler),
        ST_FEATURE(freeze_handler, freeze_handler),
        ST_FEATURE(unfreeze_handler, unfreeze_handler),
        ST_FEATURE(run_handler, run_handler),
        ST_FEATURE(manage_handler, manage_handler),
        ST_FEATURE(cleanup, cleanup),
        ST_FEATURE(helper_commands, helpers),
        ST_FEATURE(query_handler, query_handler),
        ST_FEATURE(health_checks, docker_health_checks),
};
