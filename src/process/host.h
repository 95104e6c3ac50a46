/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <daemon/host.pb-c.h>

/** Describes this machine; a heap message. What cannot be found out is left unset. */
Daemon__Host *host_read(void);

/** What the first CPU can: "flags" (x86) or "Features" (ARM) of /proc/cpuinfo; malloc'ed, NULL when unknown. */
char *host_cpu_flags(void);

/** A value of /proc/meminfo, "MemAvailable", in bytes; 0 when unknown. */
uint64_t host_memory(const char *key);
