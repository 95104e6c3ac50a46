/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/** Reads "TERM", "SIGTERM" (any case), "15", "RTMIN+3", "RTMAX-1". @return 1 … 64, -EINVAL */
int job_kill_signal(const char *text);
