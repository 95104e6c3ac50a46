/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * ONE table (options.c) maps each option of CRIU: field of the API's criu_opts (rpc.proto) ↔ flag of the command line
 * (criu(8)) ↔ the operation it belongs to. argv, --criu-opts JSON, detection and "forced off" all go through it.
 */

#include <criu/criu.pb-c.h>

#include "base/text.h"
#include <stasis/error.h>

enum criu_operation { CRIU_DUMP = 1, CRIU_RESTORE = 2 };

/**
 * Appends the options that are set, as flags; a bool that is false counts as not set. Fields that only make sense in
 * CRIU's RPC (notify_scripts, status_fd …), those that stasis itself decides (images_dir, log_file, pid …) and those of
 * the other operation are left out.
 *
 * Errors: -EINVAL for a field with no flag that would change what is done, naming it; -errno of a config_file that
 * cannot be read.
 */
int criu_options_to_argv(const Criu__CriuOpts *options, enum criu_operation operation, struct strv *argv,
                         struct st_error **err);

/** Sets options from JSON text ({"tcp_close": true, "ghost_limit": 1000}); names as in rpc.proto, - for _ allowed. */
int criu_options_from_json(Criu__CriuOpts *options, const char *json, struct st_error **err);

/** What of `from` is set (scalars present, lists not empty) replaces what `to` has. */
int criu_options_merge(Criu__CriuOpts *to, const Criu__CriuOpts *from, struct st_error **err);

/**
 * Appends the fields that are set and mean something to the operation, but for those that stasis itself decides. A
 * number that is 0 and a bool that is false count as not set.
 */
void criu_options_list(const Criu__CriuOpts *options, enum criu_operation operation, struct strv *fields);

/** Is this a boolean option, one that may be forced off? Accepts - for _. @return the field's name or NULL */
const char *criu_options_boolean(const char *name);

/** Makes a boolean option "not set". Other names do nothing. */
void criu_options_clear(Criu__CriuOpts *options, const char *name);
