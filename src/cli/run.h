/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include <stasis/command.h>
#include <stasis/v1/stasis.pb-c.h>

struct cli;

/** The request of `run TYPE …`. @param ret on the heap */
int run_request(const struct st_run_command *type, const struct st_arguments *arguments, Daemon__RunReq **ret,
                struct st_error **err);

/** Has a job begun by a method of stasis.v1.Stasis, Run or Manage. @param ret the answer; the caller's */
int run_by_daemon(struct cli *cli, const char *method, const Daemon__RunReq *req, const char *outcome,
                  Daemon__RunResp **ret, struct st_error **err);

/** Prints what has begun: "running job calm-otter, process 42"; or as JSON. @param done "running" @return EXIT_OK */
int run_print(struct cli *cli, const char *done, const Daemon__RunReq *req, const Daemon__RunResp *resp);
