/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* `stasis features` (= `plugin features`) and `stasis plugin list`. The registry must be loaded. */

#include <stdbool.h>

#include <stasis/error.h>
#include <stasis/option.h>

/** The flags of `features`. */
extern const struct st_option features_options[];

/**
 * The table of what each plugin implements, or, with --errors, a line for each thing that is wrong. The words of the
 * arguments are the plugins to show; none: all that were found. As JSON: {"plugins": [{"name", "version", "file",
 * "status", "error", "features", "without_effect"}]}.
 *
 * @return the exit code (1: --errors found one), or -errno with err
 */
int cli_features(const struct st_arguments *arguments, bool json, struct st_error **err);

/** A row for each plugin that was found, or that is named; JSON as of cli_features(). @return 0 or -errno with err */
int cli_plugin_list(const struct st_arguments *arguments, bool json, struct st_error **err);
