/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis job attach JID`, `stasis attach PID`. */

#include <stdlib.h>

#include "base/cleanup.h"
#include "cli/attach.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/job.h"

static int run_attach(struct cli *cli, struct st_error **err) {
        const char *word = st_arguments_words(cli->arguments)[0];
        struct attaching attaching = { 0 };
        _cleanup_free_ char *jid = NULL;
        int r;

        r = attach_check(cli->arguments, err);
        if (r < 0)
                return r;
        cli_begin_work(cli);
        r = job_resolve(cli, word, &jid, &attaching.pid, err);
        if (r < 0)
                return r;
        attaching.jid = jid;
        return attach(cli, &attaching, err);
}

const struct command command_job_attach = {
        .path = "job attach",
        .alias = "attach",
        .words = "JID|PID",
        .min_words = 1,
        .max_words = 1,
        .summary = "Attaches to the input and output of a job, and ends with its exit code",
        .examples = "job attach calm-otter\nattach 42 --detach-keys ctrl-a,d",
        .options = (const struct st_option *const[]){ attach_options, NULL },
        .config = true,
        .run = run_attach,
};
