/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis version` = -v, --version. */

#include "cli/version.h"

#include <stdio.h>

#include "base/version.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/output.h"

void version_print(bool json) {
        if (json)
                output_json(json_pack("{s:s}", "version", STASIS_VERSION));
        else
                puts("stasis " STASIS_VERSION);
}

static int run_version(struct cli *cli, struct st_error **err) {
        (void)err;
        version_print(cli->json);
        return EXIT_OK;
}

const struct command command_version = {
        .path = "version",
        .summary = "Prints the version",
        .examples = "version --json",
        .run = run_version,
};
