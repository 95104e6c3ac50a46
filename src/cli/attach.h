/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Our standard streams as those of a running job, as with `docker attach`. */

#include <stdbool.h>
#include <stdint.h>

#include <stasis/error.h>
#include <stasis/option.h>

struct cli;

/** The flags of commands that attach: --detach-keys. */
extern const struct st_option attach_options[];

/** Who is attached to, and how. */
struct attaching {
        uint32_t pid;
        const char *jid; /* for messages until the daemon has told it; NULL: not known */
        bool fresh;      /* it has only just been started: nothing is on its screen yet */
        bool wait;       /* also for the end of what has its streams elsewhere */
};

/** Is --detach-keys right? To be asked before anything is started. @return 0 or -EINVAL with err */
int attach_check(const struct st_arguments *arguments, struct st_error **err);

/**
 * Attaches until the job ends, the user detaches or nobody reads our output.
 *
 * @return the job's exit code; EXIT_OK when detached; EXIT_PIPE; or -errno with err. The job runs on in the last three
 */
int attach(struct cli *cli, const struct attaching *attaching, struct st_error **err);
