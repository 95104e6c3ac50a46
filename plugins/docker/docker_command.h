/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The commands of the plugin: their words, flags, and what they make of them. Called in the client. */

#include <stasis/features.h>

/** See docker_follow.h. A user may call it, too. */
#define DOCKER_FOLLOW_COMMAND                                                                                         \
        {                                                                                                             \
                "docker-follow", "ID|NAME", "Hands on the output of a Docker container, and ends with its exit code", \
                        "docker-follow web", docker_follow_options                                                    \
        }

extern const struct st_dump_command docker_dump_command, docker_freeze_command, docker_unfreeze_command;
extern const struct st_restore_command docker_restore_command;
extern const struct st_run_command docker_run_command, docker_manage_command;
extern const struct st_option docker_follow_options[];
extern const struct st_query_command docker_query_command;
