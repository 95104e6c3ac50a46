/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stasis/error.h>
#include <stasis/option.h>

/**
 * The daemon: listens at Address, spawns a worker for each operation, ends on SIGTERM or SIGINT. One thread, one loop.
 *
 * @return 0 after an orderly end; -EADDRINUSE when another daemon answers there; …
 */
int daemon_run(const struct st_arguments *config, struct st_error **err);
