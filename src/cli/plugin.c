/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis plugin list` (= `plugins`) and `stasis plugin features` (= `features`). */

#include <stddef.h>
#include <stdint.h>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/features.h"
#include "engine/engine.h"

static int run_list(struct cli *cli, struct st_error **err) {
        cli_begin_work(cli);
        engine_load_plugins(cli->arguments);
        return cli_plugin_list(cli->arguments, cli->json, err);
}

static int run_features(struct cli *cli, struct st_error **err) {
        cli_begin_work(cli);
        engine_load_plugins(cli->arguments);
        return cli_features(cli->arguments, cli->json, err);
}

const struct command command_plugin = {
        .path = "plugin",
        .summary = "Shows the plugins",
        .examples = "plugin list",
};

const struct command command_plugin_list = {
        .path = "plugin list",
        .alias = "plugins",
        .words = "[NAME…]",
        .max_words = SIZE_MAX,
        .summary = "Lists the plugins that are installed",
        .examples = "plugin list --json",
        .config = true,
        .run = run_list,
};

const struct command command_plugin_features = {
        .path = "plugin features",
        .alias = "features",
        .words = "[NAME…]",
        .max_words = SIZE_MAX,
        .summary = "Shows what each plugin implements",
        .examples = "plugin features\nfeatures --errors",
        .options = (const struct st_option *const[]){ features_options, NULL },
        .config = true,
        .run = run_features,
};
