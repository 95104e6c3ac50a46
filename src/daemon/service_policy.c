/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service_policy.h"

#include <signal.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "daemon/policy.h"
#include "daemon/service.h"

void service_schedule(struct rpc_call *call, void *userdata) {
        static const Daemon__JobPolicy none = DAEMON__JOB_POLICY__INIT;
        const Stasis__V1__ScheduleReq *req = rpc_call_request(call);
        const Daemon__Empty empty = DAEMON__EMPTY__INIT;
        _cleanup_free_ char *caller = caller_describe(rpc_call_peer(call));
        _cleanup_error_ struct st_error *error = NULL;
        struct service *service = userdata;

        st_log_info("schedule of job %s, for %s", req->jid ?: "?", caller);
        if (policies_set(service->policies, req->jid ?: "", req->policy ?: &none, &error) >= 0)
                (void)rpc_call_send(call, &empty.base);
        rpc_call_finish(call, error);
}

/** As systemd asks for it: what runs is cancelled, and this call's answer still goes out. */
static void stop_now(struct rpc_call *call, Stasis__V1__StopResp *resp) {
        (void)rpc_call_send(call, &resp->base);
        rpc_call_finish(call, NULL);
        (void)kill(getpid(), SIGTERM);
}

static void on_saved(char **messages, size_t n_messages, void *userdata) {
        _cleanup_(message_freep) Stasis__V1__StopResp *resp = message_new(&stasis__v1__stop_resp__descriptor);

        for (size_t i = 0; i < n_messages; i++) {
                st_log_info("%s", messages[i]);
                message_append(&resp->n_messages, &resp->messages, messages[i]);
        }
        free(messages);
        stop_now(userdata, resp);
}

void service_stop(struct rpc_call *call, void *userdata) {
        const Stasis__V1__StopReq *req = rpc_call_request(call);
        _cleanup_free_ char *caller = caller_describe(rpc_call_peer(call));
        struct service *service = userdata;

        st_log_info("stop%s, for %s", req->checkpoint ? " with checkpoints" : "", caller);
        if (req->checkpoint) {
                _cleanup_error_ struct st_error *error = NULL;

                if (policies_stop(service->policies, req->within, on_saved, call, &error) < 0)
                        rpc_call_finish(call, error);
        } else {
                _cleanup_(message_freep) Stasis__V1__StopResp *resp = message_new(&stasis__v1__stop_resp__descriptor);
                stop_now(call, resp);
        }
}
