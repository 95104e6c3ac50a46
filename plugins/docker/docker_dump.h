/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The dump of a Docker container, in the place of CRIU. */

#include <stasis/dump.h>

int docker_dump_run(struct st_dump *dump, struct st_dump_next *next, struct st_error **err);
