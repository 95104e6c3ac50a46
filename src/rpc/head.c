/* SPDX-License-Identifier: Apache-2.0 */

/* The headers of a request: what is taken of them, and what is refused (PROTOCOL-HTTP2.md, Requests). */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "rpc/server_private.h"

#define PATH_LIMIT 512

static bool is(const char *literal, const char *text, size_t n) {
        return strlen(literal) == n && memcmp(literal, text, n) == 0;
}

void head_take(struct request_head *head, const char *name, size_t name_size, const char *value, size_t size) {
        head->bytes += name_size + size + 32; /* as SETTINGS_MAX_HEADER_LIST_SIZE counts, RFC 9113, 6.5.2 */
        if (head->bytes > CONNECTION_HEADER_LIMIT)
                return;
        if (is(":method", name, name_size))
                head->post = is("POST", value, size);
        else if (is(":path", name, name_size) && size <= PATH_LIMIT && !head->path)
                head->path = xstrndup(value, size);
        else if (is("te", name, name_size))
                head->te = is("trailers", value, size);
        else if (is("content-type", name, name_size))
                head->content_type = grpc_is_content_type(value, size);
        else if (is("grpc-timeout", name, name_size)) {
                head->timed = true;
                head->bad_timeout = grpc_timeout_parse(value, size, &head->timeout) < 0;
        }
}

unsigned head_check(const struct request_head *head, struct st_error **err) {
        if (head->bytes > CONNECTION_HEADER_LIMIT) {
                st_error_set(err, EMSGSIZE, "request headers of more than %zu bytes", CONNECTION_HEADER_LIMIT);
                return 200;
        }
        if (!head->post) {
                st_error_set(err, EIO, "a gRPC call is a POST");
                return 405;
        }
        if (!head->content_type) {
                st_error_set(err, EIO, "a gRPC call has the content-type application/grpc");
                return 415;
        }
        if (!head->te) {
                st_error_set(err, EIO, "a gRPC call has te: trailers");
                return 400;
        }
        if (!head->path) {
                st_error_set(err, EOPNOTSUPP, "unknown method: its name is longer than %d bytes", PATH_LIMIT);
                return 200;
        }
        if (head->bad_timeout) {
                st_error_set(err, EINVAL, "malformed grpc-timeout");
                return 200;
        }
        return 0;
}

void head_clear(struct request_head *head) {
        free(head->path);
        head->path = NULL;
}
