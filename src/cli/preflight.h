/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Prints the findings of `restore --check`. */

#include <stdbool.h>

#include <daemon/daemon.pb-c.h>
#include <stasis/error.h>

/**
 * A table CHECK LEVEL SUBJECT TEXT HINT on stdout, or the same as JSON.
 *
 * @return EXIT_OK; EXIT_FAILED when there is a problem: it could not be restored; -errno with err
 */
int preflight_print(const Daemon__RestoreResp *resp, bool json, struct st_error **err);
