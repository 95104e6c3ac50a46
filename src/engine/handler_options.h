/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Options of the host's own dump and restore that only the plugin's handler could carry out, for types that have one:
 * what the plugin does not say it does (feature handler_options) is refused. These are adapters of the chains.
 */

#include <stasis/dump.h>
#include <stasis/restore.h>

int dump_handler_options(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
int restore_handler_options(struct st_restore *restore, struct st_restore_next *next, struct st_error **err);
