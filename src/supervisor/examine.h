/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Why a command cannot be executed. For stasis-launch, which looks as the job's user would. */

#include "supervisor/launch.h"

#define EXAMINE_DETAIL 248

/**
 * @param number in: what execve(2) said, or 0 before it is asked; out: what it says, or would say; 0: nothing found
 * @param detail the interpreter or loader, where it is its fault
 */
void examine_command(const char *path, int *number, enum launch_why *why, char detail[static EXAMINE_DETAIL]);
