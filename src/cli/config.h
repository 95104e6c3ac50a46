/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stasis/option.h>

/**
 * Does what --init-config and --merge-config ask for: writes config.json, and says so.
 *
 * @param config_dir of --config-dir, may be NULL
 * @return 0 or -errno with err
 */
int config_write(const struct st_arguments *config, const char *config_dir, struct st_error **err);
