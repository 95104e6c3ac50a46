/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "base/text.h"

/**
 * The environment that CRIU gets: `given` (NULL: ours) without CRIU_CONFIG_FILE, whose file --no-default-config does
 * not keep CRIU from reading. ret->items is never NULL.
 */
void criu_environment(char *const *given, struct strv *ret);

/**
 * Adds what a dump by CRIU needs on this machine: without CAP_SYS_RESOURCE it is refused the limits of other users'
 * processes, and supervisor/limits.c, preloaded, finds them.
 *
 * @param through not CRIU is started with it but a program that starts CRIU
 */
void criu_environment_limits(struct strv *environment, bool through);
