/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The status codes of gRPC (grpc/grpc, doc/statuscodes.md), and the one table between them and errno. */

enum rpc_code {
        RPC_OK = 0,
        RPC_CANCELLED = 1,
        RPC_UNKNOWN = 2,
        RPC_INVALID_ARGUMENT = 3,
        RPC_DEADLINE_EXCEEDED = 4,
        RPC_NOT_FOUND = 5,
        RPC_ALREADY_EXISTS = 6,
        RPC_PERMISSION_DENIED = 7,
        RPC_RESOURCE_EXHAUSTED = 8,
        RPC_FAILED_PRECONDITION = 9,
        RPC_ABORTED = 10,
        RPC_OUT_OF_RANGE = 11,
        RPC_UNIMPLEMENTED = 12,
        RPC_INTERNAL = 13,
        RPC_UNAVAILABLE = 14,
        RPC_DATA_LOSS = 15,
        RPC_UNAUTHENTICATED = 16,
};

/** @param number an errno, positive or negative; 0 is RPC_OK, one that the table does not know RPC_INTERNAL */
enum rpc_code rpc_code_from_errno(int number);

/** @return the positive errno that stands for the code in a client; 0 for RPC_OK, EIO for an unknown code */
int rpc_code_to_errno(int code);

/** @return "NOT_FOUND"; "?" for a code that gRPC does not know */
const char *rpc_code_name(int code);
