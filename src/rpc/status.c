/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "rpc/status.h"

/* A row of an errno may stand anywhere. What is not in the table is INTERNAL: a failure that nobody expected. */
static const struct {
        int number;
        enum rpc_code code;
} from_errno[] = {
        { 0, RPC_OK },
        { ENOENT, RPC_NOT_FOUND },
        { ESRCH, RPC_NOT_FOUND },
        { EINVAL, RPC_INVALID_ARGUMENT },
        { ENAMETOOLONG, RPC_INVALID_ARGUMENT },
        { ERANGE, RPC_INVALID_ARGUMENT },
        { EEXIST, RPC_ALREADY_EXISTS },
        { EPERM, RPC_PERMISSION_DENIED },
        { EACCES, RPC_PERMISSION_DENIED },
        { ENOSPC, RPC_RESOURCE_EXHAUSTED },
        { EDQUOT, RPC_RESOURCE_EXHAUSTED },
        { EFBIG, RPC_RESOURCE_EXHAUSTED },
        { EMSGSIZE, RPC_RESOURCE_EXHAUSTED },
        { EMFILE, RPC_RESOURCE_EXHAUSTED },
        { ENFILE, RPC_RESOURCE_EXHAUSTED },
        { ENOMEM, RPC_RESOURCE_EXHAUSTED },
        { ECANCELED, RPC_CANCELLED },
        { ETIMEDOUT, RPC_DEADLINE_EXCEEDED },
        { ETIME, RPC_DEADLINE_EXCEEDED },
        { ENOSYS, RPC_UNIMPLEMENTED },
        { EOPNOTSUPP, RPC_UNIMPLEMENTED },
        { EBUSY, RPC_FAILED_PRECONDITION },
        { ENOTEMPTY, RPC_FAILED_PRECONDITION },
        { ENOTCONN, RPC_FAILED_PRECONDITION },
        { EADDRINUSE, RPC_FAILED_PRECONDITION },
        { ENOPKG, RPC_FAILED_PRECONDITION },
        { EBADMSG, RPC_FAILED_PRECONDITION },
        { ENOTDIR, RPC_FAILED_PRECONDITION },
        { EISDIR, RPC_FAILED_PRECONDITION },
        { EROFS, RPC_FAILED_PRECONDITION },
        { EXDEV, RPC_FAILED_PRECONDITION },
        { ECONNREFUSED, RPC_UNAVAILABLE },
        { ECONNRESET, RPC_UNAVAILABLE },
};

/* Indexed by the code. The errno is one that leads back to the code where there is one. */
static const struct {
        const char *name;
        int number;
} codes[] = {
        [RPC_OK] = { "OK", 0 },
        [RPC_CANCELLED] = { "CANCELLED", ECANCELED },
        [RPC_UNKNOWN] = { "UNKNOWN", EIO },
        [RPC_INVALID_ARGUMENT] = { "INVALID_ARGUMENT", EINVAL },
        [RPC_DEADLINE_EXCEEDED] = { "DEADLINE_EXCEEDED", ETIMEDOUT },
        [RPC_NOT_FOUND] = { "NOT_FOUND", ENOENT },
        [RPC_ALREADY_EXISTS] = { "ALREADY_EXISTS", EEXIST },
        [RPC_PERMISSION_DENIED] = { "PERMISSION_DENIED", EPERM },
        [RPC_RESOURCE_EXHAUSTED] = { "RESOURCE_EXHAUSTED", ENOSPC },
        [RPC_FAILED_PRECONDITION] = { "FAILED_PRECONDITION", EBUSY },
        [RPC_ABORTED] = { "ABORTED", EAGAIN },
        [RPC_OUT_OF_RANGE] = { "OUT_OF_RANGE", ERANGE },
        [RPC_UNIMPLEMENTED] = { "UNIMPLEMENTED", EOPNOTSUPP },
        [RPC_INTERNAL] = { "INTERNAL", EIO },
        [RPC_UNAVAILABLE] = { "UNAVAILABLE", ECONNREFUSED },
        [RPC_DATA_LOSS] = { "DATA_LOSS", EBADMSG },
        [RPC_UNAUTHENTICATED] = { "UNAUTHENTICATED", EACCES },
};

enum rpc_code rpc_code_from_errno(int number) {
        for (size_t i = 0; i < ELEMENTSOF(from_errno); i++)
                if (from_errno[i].number == abs(number))
                        return from_errno[i].code;
        return RPC_INTERNAL;
}

int rpc_code_to_errno(int code) {
        return code >= 0 && (size_t)code < ELEMENTSOF(codes) ? codes[code].number : EIO;
}

const char *rpc_code_name(int code) {
        return code >= 0 && (size_t)code < ELEMENTSOF(codes) ? codes[code].name : "?";
}
