/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The commands of the plugin: their words, flags, and what they make of them. Called in the client. */

#include <stasis/features.h>

extern const struct st_dump_command docker_dump_command, docker_freeze_command, docker_unfreeze_command;
extern const struct st_restore_command docker_restore_command;
extern const struct st_query_command docker_query_command;
