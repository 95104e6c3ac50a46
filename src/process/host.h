/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <daemon/host.pb-c.h>

/** Describes this machine; a heap message. What cannot be found out is left unset. */
Daemon__Host *host_read(void);
