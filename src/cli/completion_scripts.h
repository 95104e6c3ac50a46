/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The scripts of `stasis completion`. They know no command: all candidates come from `stasis __complete`. */

struct completion_script {
        const char *shell;
        const char *text;
};

/** One for each shell, ended by an empty one. */
extern const struct completion_script completion_scripts[];
