/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The configuration of stasis: ONE table of keys (settings.c), some of which are flags too. */

#include <stdbool.h>
#include <stdint.h>

#include <stasis/option.h>

#include "base/options.h"

/** Rows with a key and a flag of every command: --address, --config-dir, …. */
extern const struct st_option settings_global[];
/** Rows with a key that are flags of dump: --dir, --compression, …. */
extern const struct st_option settings_dump[];
/** Rows with a key that are flags of daemon start: --db. */
extern const struct st_option settings_daemon[];
/** Rows that are only keys. */
extern const struct st_option settings_keys[];

/**
 * Loads the configuration: defaults, file (STASIS_CONFIG_DIR, --config-dir, /etc/stasis, ~/.config/stasis),
 * environment. Flags are the caller's to parse into it afterwards.
 *
 * @param extra further tables of the command (flags only, or plugins'), may be NULL
 * @param config_dir of --config-dir; NULL: by environment and user
 */
int settings_load(const struct option_tables *extra, const char *config_dir, struct st_arguments **ret,
                  struct st_error **err);

/** The configuration directory in effect; malloc'ed. */
char *settings_directory(const char *config_dir);

/** Is the daemon reached by TCP? */
bool settings_is_tcp(const struct st_arguments *config);

/** The path of the daemon's UNIX socket, which it has also with TCP; owned by the arguments. */
const char *settings_socket_path(const struct st_arguments *config);

/**
 * Is a client to use the UNIX socket? With Protocol tcp in the configuration file, too, where the daemon of that
 * configuration runs: its socket is there. A flag or variable that names Protocol or Address is obeyed.
 */
bool settings_prefers_socket(const struct st_arguments *config);

/**
 * The name of the format of a checkpoint for which none was asked: as configured; but of several streams, which a
 * native image does not have, zstd. Owned by the arguments or static.
 */
const char *settings_format(const struct st_arguments *config, int64_t streams);

/** The configuration from the JSON of arguments_to_json(), as a worker gets it. */
int settings_from_json(const char *json, struct st_arguments **ret, struct st_error **err);
