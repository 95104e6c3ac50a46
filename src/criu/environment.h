/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/text.h"

/**
 * The environment that CRIU gets: `given` (NULL: ours) without CRIU_CONFIG_FILE, whose file --no-default-config does
 * not keep CRIU from reading. ret->items is never NULL.
 */
void criu_environment(char *const *given, struct strv *ret);
