/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Between stasis-hook, which CRIU runs, and whoever runs CRIU (src/engine/dump_hook.c, restore_lazy.c). */

/** The environment variable with the path of the socket to ask at. */
#define HOOK_SOCKET_VARIABLE "STASIS_HOOK_SOCKET"

/** Without the variable the socket is beside the name that the hook was called by, and called so. */
#define HOOK_SOCKET_NAME "hook.sock"

/** The one byte that lets CRIU go on after a dump or restore. Anything else, or the end of the connection, does not. */
#define HOOK_GO_ON 'g'
