/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Attach: what goes between a client's call and the socket of the job's supervisor (src/supervisor/protocol.h). Neither
 * side is read faster than the other one takes it. One thread, the loop's.
 */

#include <systemd/sd-event.h>

#include <stasis/error.h>

#include "daemon/jobs.h"
#include "rpc/server.h"

/**
 * Answers a call of daemon.Daemon/Attach whose first message is there; finishes it.
 *
 * @param process what the PID of its first message means; cleared
 */
void attach_start(sd_event *loop, struct rpc_call *call, struct job_process *process);
