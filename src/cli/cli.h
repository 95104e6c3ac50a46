/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The command line: finds the command, reads flags and configuration, runs it, prints what went wrong. */

#include <stdbool.h>

#include <stasis/command.h>
#include <stasis/error.h>
#include <stasis/option.h>

#include "cli/exit.h"

struct command;
struct line;

/** One invocation, as a command sees it. */
struct cli {
        const struct command *command;
        const struct st_command *type;  /* of `dump TYPE` and its like; NULL for other commands */
        struct st_arguments *arguments; /* flags and positional arguments, and the configuration if needed */
        bool json;                      /* --json */
        int failure;                    /* exit code of an error returned now: EXIT_USAGE until the work begins */
};

/** The whole program but `worker`. @return the exit code */
int cli_main(int argc, char **argv);

/**
 * line_parse(), for a command that may be a plugin's too: loads the plugins when a word is not known otherwise, with
 * what the line and the configuration say of them.
 */
int cli_find_command(char *const *argv, struct line *line, struct st_error **err);

/** Loads the plugins if the line's next word may be a type that they bring. A broken configuration: none. */
void cli_load_types(const struct line *line);

/** Flags and configuration of a line, as its command would have them. @return 0 or -errno with err */
int cli_load_arguments(const struct line *line, struct st_arguments **ret, struct st_error **err);

/** Prints the help of a line's command on stdout; loads the plugins when it lists types. */
void cli_show_help(const struct line *line);

/** From now on an error is not the fault of the command line. */
static inline void cli_begin_work(struct cli *cli) {
        cli->failure = EXIT_FAILED;
}
