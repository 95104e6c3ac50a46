/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <protobuf-c/protobuf-c.h>

/**
 * Makes an answer fit what existing clients receive (4 MiB, the default of gRPC's Go library): a checkpoint of a huge
 * tree must not seem to have failed because its description is long. What is left out of the states (files, then
 * connections and mounts, then children) is told in the messages. Answers of other types are left alone.
 *
 * @param response a heap message: DumpResp, RestoreResp or QueryResp
 */
void reply_trim(ProtobufCMessage *response);

/**
 * Adds what existing clients print of an answer, as its last message: they show nothing else, and scripts take the path
 * from the end of it.
 */
void reply_summarise(ProtobufCMessage *response);
