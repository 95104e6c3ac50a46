/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What is recorded of a checkpoint that was just made. */

#include <stdint.h>

#include <stasis/operation.h>

#include <stasis/v1/stasis.pb-c.h>

/**
 * @param req as the dump left it: its defaults are filled in
 * @param resp of a dump that succeeded
 * @param duration_us of the whole dump
 * @return a message with Path, Type, Format, Time, Size, Frozen, Pages and Duration: free it with message_freep()
 */
Stasis__V1__CheckpointInfo *dump_info(const struct st_operation *operation, const Daemon__DumpReq *req,
                                      const Daemon__DumpResp *resp, uint64_t duration_us);
