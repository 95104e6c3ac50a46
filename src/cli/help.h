/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>

#include "cli/command.h"

/**
 * Writes the help of a command, made from its rows.
 *
 * @param command NULL: of the whole program
 * @param type of a verb with types; NULL: the verb's, with a list of its types
 */
void help_print(FILE *f, const struct command *command, const struct st_command *type);
