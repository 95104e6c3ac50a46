/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stasis/command.h>

struct cli;

/** The request of `dump TYPE …`. @param ret on the heap */
int dump_request(const struct st_dump_command *type, const struct st_arguments *arguments, Daemon__DumpReq **ret,
                 struct st_error **err);

/**
 * Has the request done, whatever its action, by the daemon or with --no-server in this process.
 *
 * @param outcome what is told of a cancellation: "process 42 goes on running"
 * @param ret the answer; the caller's
 */
int dump_operate(struct cli *cli, Daemon__DumpReq *req, const char *outcome, Daemon__DumpResp **ret,
                 struct st_error **err);
