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
#include "daemon/reply.h"
#include "engine/request.h"

#include <stasis/v1/stasis.pb-c.h>

/** One call that waits for its worker. */
struct pending {
        struct service *service;
        struct rpc_call *call;
        struct worker *worker;
        Stasis__Worker__OperationKind kind;
        bool events; /* of stasis.v1.Stasis: a stream of events, the last one with the response */
        bool async;  /* goes on when its client goes away */
};

static void on_event(const Stasis__V1__Event *event, void *userdata) {
        struct pending *pending = userdata;

        if (pending->events)
                (void)rpc_call_send(pending->call, &event->base);
}

static const ProtobufCMessageDescriptor *response_type(Stasis__Worker__OperationKind kind) {
        switch (kind) {
        case STASIS__WORKER__OPERATION_KIND__DUMP:
        case STASIS__WORKER__OPERATION_KIND__FREEZE:
        case STASIS__WORKER__OPERATION_KIND__UNFREEZE:
                return &daemon__dump_resp__descriptor;
        case STASIS__WORKER__OPERATION_KIND__RESTORE:
                return &daemon__restore_resp__descriptor;
        case STASIS__WORKER__OPERATION_KIND__QUERY:
                return &daemon__query_resp__descriptor;
        case STASIS__WORKER__OPERATION_KIND__HEALTH_CHECK:
                return &daemon__health_check_resp__descriptor;
        default:
                return &daemon__empty__descriptor;
        }
}

static void send_response(struct pending *pending, ProtobufCMessage *response) {
        Stasis__V1__Event event = STASIS__V1__EVENT__INIT;

        reply_trim(response);
        if (!pending->events) {
                reply_summarise(response);
                (void)rpc_call_send(pending->call, response);
                return;
        }
        if (response->descriptor == &daemon__dump_resp__descriptor) {
                event.kind_case = STASIS__V1__EVENT__KIND_DUMP;
                event.dump = (Daemon__DumpResp *)response;
        } else {
                event.kind_case = STASIS__V1__EVENT__KIND_RESTORE;
                event.restore = (Daemon__RestoreResp *)response;
        }
        (void)rpc_call_send(pending->call, &event.base);
}

static void on_end(const ProtobufCBinaryData *packed, const Stasis__V1__Profile *profile, struct st_error *error,
                   void *userdata) {
        struct pending *pending = userdata;
        _cleanup_error_ struct st_error *garbage = NULL;
        _cleanup_free_ uint8_t *spans = NULL;
        size_t size;

        if (pending->kind == STASIS__WORKER__OPERATION_KIND__RESTORE)
                supervisors_scan(pending->service->supervisors);
        if (packed) {
                _cleanup_(message_freep) ProtobufCMessage *response =
                        protobuf_c_message_unpack(response_type(pending->kind), NULL, packed->len, packed->data);
                if (response)
                        send_response(pending, response);
                else {
                        st_error_set(&garbage, EBADMSG, "the worker's answer is not readable");
                        error = garbage;
                }
        }
        spans = message_pack(&profile->base, &size);
        if (size > 0)
                (void)rpc_call_trailer(pending->call, "stasis-profile-bin", spans, size);
        rpc_call_finish(pending->call, error);
        free(pending);
}

static void on_cancel(struct rpc_call *call, int reason, void *userdata) {
        struct pending *pending = userdata;

        (void)call;
        if (reason == -ECONNRESET) {
                /* Nobody waits any more. What is being restored is wanted all the same, and so is an --async dump. */
                if (pending->async || pending->kind == STASIS__WORKER__OPERATION_KIND__RESTORE)
                        return;
                reason = -ECANCELED;
        }
        worker_cancel(pending->worker, -reason);
}

static void log_refusal(const struct rpc_call *call, struct st_error *error) {
        _cleanup_free_ char *caller = caller_describe(rpc_call_peer(call));

        st_log_warning("refused %s, for %s: %s", rpc_call_method(call), caller, st_error_message(error));
}

/** Only root may do what the daemon does. */
static int admit(const struct rpc_call *call, void *userdata, struct st_error **err) {
        const struct service *service = userdata;
        _cleanup_error_ struct st_error *error = NULL;

        if (caller_require_root(&service->rules, rpc_call_peer(call), &error) >= 0)
                return 0;
        log_refusal(call, error);
        return st_error_move(err, TAKE_PTR(error));
}

static void start(struct service *service, struct rpc_call *call, Stasis__Worker__OperationKind kind,
                  const char *kind_name, char *target, bool events, bool async) {
        static const struct worker_events callbacks = { .event = on_event, .end = on_end };
        const struct rpc_peer *peer = rpc_call_peer(call);
        _cleanup_error_ struct st_error *error = NULL;
        struct pending *pending = NEW(struct pending);
        struct worker_task task = {
                .kind = kind,
                .kind_name = kind_name,
                .target = target,
                .uid = peer->uid,
                .gid = peer->gid,
                .pid = peer->pid,
                .privileged = caller_is_root(&service->rules, peer),
                .caller = caller_describe(peer),
        };
        task.request = message_pack(rpc_call_request(call), &task.request_size);
        *pending = (struct pending){
                .service = service,
                .call = call,
                .kind = kind,
                .events = events,
                .async = async,
        };
        if (workers_start(service->workers, &task, &callbacks, pending, &pending->worker, &error) < 0) {
                rpc_call_finish(call, error);
                free(pending);
                return;
        }
        rpc_call_on_cancel(call, on_cancel, pending);
        if (events) {
                Stasis__V1__Event event = STASIS__V1__EVENT__INIT;

                event.kind_case = STASIS__V1__EVENT__KIND_STARTED;
                event.started = (char *)worker_id(pending->worker);
                (void)rpc_call_send(call, &event.base);
        }
}

/** "process 42", "runc": what a log and `daemon status` call the target of a dump. */
static char *dump_target(const Daemon__DumpReq *req) {
        _cleanup_free_ char *id = request_target_id(req->details);
        const char *type = req->type ?: "process";

        return id ? xasprintf("%s %s", type, id) : xstrdup(type);
}

static void start_freezer(struct service *service, struct rpc_call *call, bool freeze, bool events) {
        start(service, call, freeze ? STASIS__WORKER__OPERATION_KIND__FREEZE : STASIS__WORKER__OPERATION_KIND__UNFREEZE,
              freeze ? "freeze" : "unfreeze", dump_target(rpc_call_request(call)), events, false);
}

/** DumpReq.Action stands for a method of its own. */
static void start_dump(struct service *service, struct rpc_call *call, bool events) {
        const Daemon__DumpReq *req = rpc_call_request(call);
        Daemon__DumpAction action = req->has_action ? req->action : DAEMON__DUMP_ACTION__DUMP;

        if (action == DAEMON__DUMP_ACTION__FREEZE_ONLY || action == DAEMON__DUMP_ACTION__UNFREEZE_ONLY) {
                start_freezer(service, call, action == DAEMON__DUMP_ACTION__FREEZE_ONLY, events);
                return;
        }
        start(service, call, STASIS__WORKER__OPERATION_KIND__DUMP, "dump", dump_target(req), events,
              req->has_async && req->async);
}

static void start_restore(struct service *service, struct rpc_call *call, bool events) {
        const Daemon__RestoreReq *req = rpc_call_request(call);
        const struct identity identity = {
                .has_uid = req->has_uid,
                .has_gid = req->has_gid,
                .uid = req->uid,
                .gid = req->gid,
                .groups = req->groups,
                .n_groups = req->n_groups,
                .env = req->env,
                .n_env = req->n_env,
        };
        _cleanup_error_ struct st_error *error = NULL;

        if (caller_check_identity(&service->rules, rpc_call_peer(call), &identity, &error) < 0) {
                log_refusal(call, error);
                rpc_call_finish(call, error);
                return;
        }
        start(service, call, STASIS__WORKER__OPERATION_KIND__RESTORE, "restore", xstrdup(req->path ?: "?"), events,
              false);
}

static void handle_freeze(struct rpc_call *call, void *userdata) {
        start_freezer(userdata, call, true, false);
}

static void handle_unfreeze(struct rpc_call *call, void *userdata) {
        start_freezer(userdata, call, false, false);
}

static void handle_dump(struct rpc_call *call, void *userdata) {
        start_dump(userdata, call, false);
}

static void handle_dump_events(struct rpc_call *call, void *userdata) {
        start_dump(userdata, call, true);
}

static void handle_restore(struct rpc_call *call, void *userdata) {
        start_restore(userdata, call, false);
}

static void handle_restore_events(struct rpc_call *call, void *userdata) {
        start_restore(userdata, call, true);
}

static void handle_query(struct rpc_call *call, void *userdata) {
        const Daemon__QueryReq *req = rpc_call_request(call);

        start(userdata, call, STASIS__WORKER__OPERATION_KIND__QUERY, "query", xstrdup(req->type ?: "process"), false,
              false);
}

static void handle_health_check(struct rpc_call *call, void *userdata) {
        start(userdata, call, STASIS__WORKER__OPERATION_KIND__HEALTH_CHECK, "health check", xstrdup("this machine"),
              false, false);
}

static void handle_reload_plugins(struct rpc_call *call, void *userdata) {
        start(userdata, call, STASIS__WORKER__OPERATION_KIND__RELOAD_PLUGINS, "reload", xstrdup("plugins"), false,
              false);
}

static void handle_cancel(struct rpc_call *call, void *userdata) {
        const Stasis__V1__CancelReq *req = rpc_call_request(call);
        const struct service *service = userdata;
        const Daemon__Empty empty = DAEMON__EMPTY__INIT;
        _cleanup_free_ char *caller = caller_describe(rpc_call_peer(call));
        _cleanup_error_ struct st_error *error = NULL;

        st_log_info("cancel of %s, for %s", req->id ?: "?", caller);
        if (workers_cancel(service->workers, req->id ?: "", 0, &error) >= 0)
                (void)rpc_call_send(call, &empty.base);
        rpc_call_finish(call, error);
}

static uint64_t resident_bytes(void) {
        _cleanup_free_ char *text = NULL;
        unsigned long long size = 0, resident = 0;

        if (io_read_file(AT_FDCWD, "/proc/self/statm", 256, &text, NULL) < 0 ||
            sscanf(text, "%llu %llu", &size, &resident) != 2)
                return 0;
        return resident * (unsigned long long)sysconf(_SC_PAGESIZE);
}

static void handle_status(struct rpc_call *call, void *userdata) {
        const struct service *service = userdata;
        _cleanup_(message_freep) Stasis__V1__StatusResp *resp = message_new(&stasis__v1__status_resp__descriptor);

        resp->version = xstrdup(STASIS_VERSION);
        resp->address = xstrdup(st_arguments_string(service->config, "Address"));
        resp->has_pid = resp->has_started = resp->has_memory = 1;
        resp->pid = (uint32_t)getpid();
        resp->started = service->started;
        resp->memory = resident_bytes();
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
        { .name = "Query", .handle = handle_query },
        { .name = "HealthCheck", .handle = handle_health_check },
        { .name = "ReloadPlugins", .handle = handle_reload_plugins },
        { 0 },
};

static const struct rpc_method stasis_methods[] = {
        { .name = "Dump", .handle = handle_dump_events },
        { .name = "Restore", .handle = handle_restore_events },
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
