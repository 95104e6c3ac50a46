/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Who holds memory that still comes when this process is the parent of what runs, and does not become a supervisor. */

#include "engine/engine.h"

/** A thread looks after it until all is in. Takes ret->memory_fd and its record. */
void lazy_holder_start(struct engine_started *started);
