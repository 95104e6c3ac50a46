/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/**
 * From now on a crash of this process first says which plugin and adapter ran: with --no-server plugins run inside the
 * command line. (A worker's crash is reported by the daemon.)
 */
void crash_handler_install(void);
