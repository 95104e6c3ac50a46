/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Programs of the user around a dump and after a restore: docs/hooks.md. */

#include "engine/dump_context.h"

/**
 * Runs the post-thaw hooks: CRIU has let go of the target. Once; a second call does nothing. Their failures are told in
 * the answer.
 */
void hooks_after_thaw(struct dump_context *context);
