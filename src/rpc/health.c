/* SPDX-License-Identifier: Apache-2.0 */

/* The health service of gRPC (grpc/grpc, doc/health-checking.md): a server that answers serves all that it has. */

#include <errno.h>

#include <health/health.pb-c.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "rpc/server_private.h"

static void handle_check(struct rpc_call *call, void *userdata) {
        const Grpc__Health__V1__HealthCheckRequest *req = rpc_call_request(call);
        Grpc__Health__V1__HealthCheckResponse resp = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
        const struct rpc_server *server = userdata;
        _cleanup_error_ struct st_error *error = NULL;
        bool known = isempty(req->service);

        for (size_t i = 0; i < server->n_services && !known; i++)
                known = streq(server->services[i].descriptor->name, req->service);
        if (known) {
                resp.has_status = 1;
                resp.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
                (void)rpc_call_send(call, &resp.base);
        } else
                st_error_set(&error, ENOENT, "unknown service %s", req->service);
        rpc_call_finish(call, error);
}

static const struct rpc_method methods[] = {
        { .name = "Check", .handle = handle_check },
        { 0 },
};

bool server_is_health(const struct rpc_method *method) {
        return method->handle == handle_check;
}

int server_add_health(struct rpc_server *server, struct st_error **err) {
        return rpc_server_add_service(server, (const ProtobufCServiceDescriptor *)&grpc__health__v1__health__descriptor,
                                      methods, server, err);
}
