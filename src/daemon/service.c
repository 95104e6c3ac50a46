/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service.h"

#include <fcntl.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "base/version.h"
#include "daemon/monitor.h"
#include "daemon/service_calls.h"
#include "daemon/service_jobs.h"
#include "daemon/service_policy.h"

#include <stasis/v1/stasis.pb-c.h>

/** Only root may do what the daemon does. */
static int admit(const struct rpc_call *call, void *userdata, struct st_error **err) {
        const struct service *service = userdata;
        _cleanup_error_ struct st_error *error = NULL;

        if (caller_require_root(&service->rules, rpc_call_peer(call), &error) >= 0)
                return 0;
        service_log_refusal(call, error);
        return st_error_move(err, TAKE_PTR(error));
}

static void handle_freeze(struct rpc_call *call, void *userdata) {
        service_freeze(userdata, call, STASIS__WORKER__OPERATION_KIND__FREEZE, false);
}

static void handle_unfreeze(struct rpc_call *call, void *userdata) {
        service_freeze(userdata, call, STASIS__WORKER__OPERATION_KIND__UNFREEZE, false);
}

static void handle_dump(struct rpc_call *call, void *userdata) {
        service_dump(userdata, call, false);
}

static void handle_dump_events(struct rpc_call *call, void *userdata) {
        service_dump(userdata, call, true);
}

static void handle_restore(struct rpc_call *call, void *userdata) {
        service_restore(userdata, call, false);
}

static void handle_restore_events(struct rpc_call *call, void *userdata) {
        service_restore(userdata, call, true);
}

static void handle_run(struct rpc_call *call, void *userdata) {
        service_run(userdata, call, false, false);
}

static void handle_run_events(struct rpc_call *call, void *userdata) {
        service_run(userdata, call, false, true);
}

static void handle_manage(struct rpc_call *call, void *userdata) {
        service_run(userdata, call, true, false);
}

static void handle_manage_events(struct rpc_call *call, void *userdata) {
        service_run(userdata, call, true, true);
}

static void handle_query(struct rpc_call *call, void *userdata) {
        const Daemon__QueryReq *req = rpc_call_request(call);

        service_start(userdata, call, STASIS__WORKER__OPERATION_KIND__QUERY, "query", xstrdup(req->type ?: "process"),
                      false);
}

static void handle_health_check(struct rpc_call *call, void *userdata) {
        service_start(userdata, call, STASIS__WORKER__OPERATION_KIND__HEALTH_CHECK, "health check",
                      xstrdup("this machine"), false);
}

static void handle_reload_plugins(struct rpc_call *call, void *userdata) {
        service_start(userdata, call, STASIS__WORKER__OPERATION_KIND__RELOAD_PLUGINS, "reload", xstrdup("plugins"),
                      false);
}

static void handle_cancel(struct rpc_call *call, void *userdata) {
        const Stasis__V1__CancelReq *req = rpc_call_request(call);
        const struct service *service = userdata;
        const Daemon__Empty empty = DAEMON__EMPTY__INIT;
        _cleanup_free_ char *caller = caller_describe(rpc_call_peer(call));
        _cleanup_error_ struct st_error *error = NULL;

        st_log_info("cancel of %s, for %s", req->id ?: "?", caller);
        if (workers_cancel(service->workers, req->id ?: "", ECANCELED, &error) >= 0)
                (void)rpc_call_send(call, &empty.base);
        rpc_call_finish(call, error);
}

static void handle_status(struct rpc_call *call, void *userdata) {
        const struct service *service = userdata;
        _cleanup_(message_freep) Stasis__V1__StatusResp *resp = message_new(&stasis__v1__status_resp__descriptor);

        resp->version = xstrdup(STASIS_VERSION);
        resp->address = xstrdup(st_arguments_string(service->config, "Address"));
        resp->has_pid = resp->has_started = resp->has_memory = 1;
        resp->pid = (uint32_t)getpid();
        resp->started = service->started;
        resp->memory = monitor_resident();
        workers_status(service->workers, resp);
        supervisors_status(service->supervisors, resp);
        (void)rpc_call_send(call, &resp->base);
        rpc_call_finish(call, NULL);
}

static const struct rpc_method daemon_methods[] = {
        { .name = "Dump", .handle = handle_dump },
        { .name = "Freeze", .handle = handle_freeze },
        { .name = "Unfreeze", .handle = handle_unfreeze },
        { .name = "Restore", .handle = handle_restore },
        { .name = "Attach", .handle = service_attach, .streaming = true },
        { .name = "Run", .handle = handle_run },
        { .name = "Manage", .handle = handle_manage },
        { .name = "Get", .handle = service_get },
        { .name = "List", .handle = service_list },
        { .name = "Kill", .handle = service_kill },
        { .name = "Delete", .handle = service_delete },
        { .name = "GetCheckpoint", .handle = service_get_checkpoint },
        { .name = "ListCheckpoints", .handle = service_list_checkpoints },
        { .name = "DeleteCheckpoint", .handle = service_delete_checkpoint },
        { .name = "Query", .handle = handle_query },
        { .name = "HealthCheck", .handle = handle_health_check },
        { .name = "ReloadPlugins", .handle = handle_reload_plugins },
        { 0 },
};

static const struct rpc_method stasis_methods[] = {
        { .name = "Dump", .handle = handle_dump_events },
        { .name = "Restore", .handle = handle_restore_events },
        { .name = "Run", .handle = handle_run_events },
        { .name = "Manage", .handle = handle_manage_events },
        { .name = "ListJobs", .handle = service_list_jobs },
        { .name = "ListCheckpoints", .handle = service_list_checkpoint_infos },
        { .name = "FoldCheckpoint", .handle = service_fold_checkpoint },
        { .name = "Schedule", .handle = service_schedule },
        { .name = "Stop", .handle = service_stop },
        { .name = "Cancel", .handle = handle_cancel },
        { .name = "Status", .handle = handle_status },
        { 0 },
};

int service_register(struct service *service, struct rpc_server *server, struct st_error **err) {
        int r;

        rpc_server_set_admission(server, admit, service);
        r = rpc_server_add_service(server, (const ProtobufCServiceDescriptor *)&daemon__daemon__descriptor,
                                   daemon_methods, service, err);
        if (r >= 0)
                r = rpc_server_add_service(server, (const ProtobufCServiceDescriptor *)&stasis__v1__stasis__descriptor,
                                           stasis_methods, service, err);
        return r;
}
