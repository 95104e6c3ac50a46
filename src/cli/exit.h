/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The exit codes of the command line, also told by `stasis --help`. What attaches (`run --attach`, `attach`) or
 * stays (`--no-server` of run and restore) ends with the code of the job or process instead: its own, or 128 + N when
 * signal N ended it.
 */
enum exit_code {
        EXIT_OK = 0,            /* done */
        EXIT_FAILED = 1,        /* could not be done; `check`: something is wrong; `daemon status`: no daemon runs */
        EXIT_USAGE = 2,         /* the command line or the configuration is wrong: nothing was tried */
        EXIT_INTERRUPTED = 130, /* cancelled by a signal: 128 + SIGINT, as shells have it */
        EXIT_PIPE = 141,        /* nobody reads the output: 128 + SIGPIPE */
};
