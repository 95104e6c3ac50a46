/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service_calls.h"

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "daemon/reply.h"
#include "engine/request.h"

/** One call that waits for its worker. */
struct pending {
        struct pending *next, **link; /* in service->pendings */
        struct service *service;
        struct rpc_call *call;
        char *id; /* of the operation */
        Stasis__Worker__OperationKind kind;
        bool events;  /* of stasis.v1.Stasis: a stream of events, the last one with the response */
        bool goes_on; /* when its client goes away */
};

static void pending_free(struct pending *pending) {
        *pending->link = pending->next;
        if (pending->next)
                pending->next->link = pending->link;
        free(pending->id);
        free(pending);
}

void service_calls_clear(struct service *service) {
        while (service->pendings) {
                rpc_call_finish(service->pendings->call, NULL);
                pending_free(service->pendings);
        }
}

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
        case STASIS__WORKER__OPERATION_KIND__RUN:
        case STASIS__WORKER__OPERATION_KIND__MANAGE:
                return &daemon__run_resp__descriptor;
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
        } else if (response->descriptor == &daemon__run_resp__descriptor) {
                event.kind_case = STASIS__V1__EVENT__KIND_RUN;
                event.run = (Daemon__RunResp *)response;
        } else {
                event.kind_case = STASIS__V1__EVENT__KIND_RESTORE;
                event.restore = (Daemon__RestoreResp *)response;
        }
        (void)rpc_call_send(pending->call, &event.base);
}

static void on_end(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile, struct st_error *error,
                   void *userdata) {
        struct pending *pending = userdata;
        _cleanup_error_ struct st_error *garbage = NULL;
        _cleanup_free_ uint8_t *spans = NULL;
        size_t size;

        if (result) {
                _cleanup_(message_freep) ProtobufCMessage *response = protobuf_c_message_unpack(
                        response_type(pending->kind), NULL, result->response.len, result->response.data);
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
        pending_free(pending);
}

static void on_cancel(struct rpc_call *call, int reason, void *userdata) {
        struct pending *pending = userdata;

        (void)call;
        if (reason == -ECONNRESET) {
                if (pending->goes_on)
                        return;
                reason = -ECANCELED;
        }
        (void)workers_cancel(pending->service->workers, pending->id, -reason, NULL);
}

static const struct worker_events callbacks = { .event = on_event, .end = on_end };

static struct pending *pending_new(struct service *service, struct rpc_call *call, Stasis__Worker__OperationKind kind,
                                   bool events) {
        struct pending *pending = NEW(struct pending);

        *pending = (struct pending){
                .service = service,
                .call = call,
                .kind = kind,
                .events = events,
                /* Nobody waits any more. What is being started or restored is wanted all the same. */
                .goes_on = kind == STASIS__WORKER__OPERATION_KIND__RESTORE ||
                           kind == STASIS__WORKER__OPERATION_KIND__RUN ||
                           kind == STASIS__WORKER__OPERATION_KIND__MANAGE,
                .next = service->pendings,
                .link = &service->pendings,
        };
        if (pending->next)
                pending->next->link = &pending->next;
        service->pendings = pending;
        return pending;
}

/** Its worker is there, in the queue. */
static void wait_for_end(struct pending *pending, const struct worker *worker) {
        pending->id = xstrdup(worker_id(worker));
        if (pending->events) {
                Stasis__V1__Event event = STASIS__V1__EVENT__INIT;

                event.kind_case = STASIS__V1__EVENT__KIND_STARTED;
                event.started = pending->id;
                (void)rpc_call_send(pending->call, &event.base);
        }
        rpc_call_on_cancel(pending->call, on_cancel, pending);
}

/** An operation on a job is queued, or could not even be: r < 0. */
static void begun(struct pending *pending, int r, const struct worker *worker, struct st_error *error) {
        if (r >= 0) {
                wait_for_end(pending, worker);
                return;
        }
        rpc_call_finish(pending->call, error);
        pending_free(pending);
}

/** What the request's field Type says, "process" when it is empty; malloc'ed, NULL: there is no such field */
static char *type_of(const ProtobufCMessage *request) {
        const ProtobufCFieldDescriptor *field =
                protobuf_c_message_descriptor_get_field_by_name(request->descriptor, "Type");
        const char *const *type;

        if (!field || field->type != PROTOBUF_C_TYPE_STRING)
                return NULL;
        type = (const char *const *)((const char *)request + field->offset);
        return xstrdup(isempty(*type) ? "process" : *type);
}

static void enqueue(struct pending *pending, const char *kind_name, char *target) {
        struct service *service = pending->service;
        const struct rpc_peer *peer = rpc_call_peer(pending->call);
        struct worker_task task = {
                .kind = pending->kind,
                .kind_name = kind_name,
                .target = target,
                .type = type_of(rpc_call_request(pending->call)),
                .uid = peer->uid,
                .gid = peer->gid,
                .pid = peer->pid,
                .privileged = caller_is_root(&service->rules, peer),
                .caller = caller_describe(peer),
        };

        task.request = message_pack(rpc_call_request(pending->call), &task.request_size);
        wait_for_end(pending, workers_start(service->workers, &task, &callbacks, pending));
}

void service_start(struct service *service, struct rpc_call *call, Stasis__Worker__OperationKind kind,
                   const char *kind_name, char *target, bool events) {
        enqueue(pending_new(service, call, kind, events), kind_name, target);
}

struct job_caller service_caller(const struct service *service, const struct rpc_call *call) {
        const struct rpc_peer *peer = rpc_call_peer(call);

        return (struct job_caller){
                .uid = peer->uid,
                .gid = peer->gid,
                .pid = peer->pid,
                .privileged = caller_is_root(&service->rules, peer),
                .text = caller_describe(peer),
        };
}

/** Is the request about a job, by its name? */
static bool is_of_job(const char *type) {
        return type && streq(type, "job");
}

/** "process 42", "runc": what a log and `daemon status` call the target of a dump. */
static char *dump_target(const Daemon__DumpReq *req) {
        _cleanup_free_ char *id = request_target_id(req->details);
        const char *type = req->type ?: "process";

        return id ? xasprintf("%s %s", type, id) : xstrdup(type);
}

static void start_dump(struct pending *pending, const char *kind_name) {
        const Daemon__DumpReq *req = rpc_call_request(pending->call);
        _cleanup_error_ struct st_error *error = NULL;
        struct worker *worker = NULL;
        struct job_caller caller;
        int r;

        if (!is_of_job(req->type)) {
                enqueue(pending, kind_name, dump_target(req));
                return;
        }
        caller = service_caller(pending->service, pending->call);
        r = jobs_dump(pending->service->jobs, pending->kind, message_copy(&req->base), &caller, &callbacks, pending,
                      &worker, &error);
        begun(pending, r, worker, error);
}

void service_freeze(struct service *service, struct rpc_call *call, Stasis__Worker__OperationKind kind, bool events) {
        start_dump(pending_new(service, call, kind, events),
                   kind == STASIS__WORKER__OPERATION_KIND__FREEZE ? "freeze" : "unfreeze");
}

/** DumpReq.Action stands for a method of its own. */
void service_dump(struct service *service, struct rpc_call *call, bool events) {
        const Daemon__DumpReq *req = rpc_call_request(call);
        struct pending *pending;

        if (req->has_action && req->action == DAEMON__DUMP_ACTION__FREEZE_ONLY)
                service_freeze(service, call, STASIS__WORKER__OPERATION_KIND__FREEZE, events);
        else if (req->has_action && req->action == DAEMON__DUMP_ACTION__UNFREEZE_ONLY)
                service_freeze(service, call, STASIS__WORKER__OPERATION_KIND__UNFREEZE, events);
        else {
                pending = pending_new(service, call, STASIS__WORKER__OPERATION_KIND__DUMP, events);
                pending->goes_on = req->has_async && req->async;
                start_dump(pending, "dump");
        }
}

/** May the caller ask for that identity? Answers the call when not. */
static bool check_identity(struct service *service, struct rpc_call *call, const struct identity *identity) {
        _cleanup_error_ struct st_error *error = NULL;

        if (caller_check_identity(&service->rules, rpc_call_peer(call), identity, &error) >= 0)
                return true;
        service_log_refusal(call, error);
        rpc_call_finish(call, error);
        return false;
}

/** The members of a RestoreReq or RunReq. */
#define IDENTITY(req)                        \
        ((struct identity){                  \
                .has_uid = (req)->has_uid,   \
                .has_gid = (req)->has_gid,   \
                .uid = (req)->uid,           \
                .gid = (req)->gid,           \
                .groups = (req)->groups,     \
                .n_groups = (req)->n_groups, \
                .env = (req)->env,           \
                .n_env = (req)->n_env,       \
        })

void service_restore(struct service *service, struct rpc_call *call, bool events) {
        const Daemon__RestoreReq *req = rpc_call_request(call);
        const struct identity identity = IDENTITY(req);
        _cleanup_error_ struct st_error *error = NULL;
        struct pending *pending;
        struct worker *worker = NULL;
        struct job_caller caller;
        int r;

        if (!check_identity(service, call, &identity))
                return;
        pending = pending_new(service, call, STASIS__WORKER__OPERATION_KIND__RESTORE, events);
        if (!is_of_job(req->type)) {
                enqueue(pending, "restore", xstrdup(req->path ?: "?"));
                return;
        }
        caller = service_caller(pending->service, pending->call);
        r = jobs_restore(service->jobs, message_copy(&req->base), &caller, &callbacks, pending, &worker, &error);
        begun(pending, r, worker, error);
}

/** RunReq.Action stands for the method of that name. */
void service_run(struct service *service, struct rpc_call *call, bool manage, bool events) {
        const Daemon__RunReq *req = rpc_call_request(call);
        const struct identity identity = IDENTITY(req);
        _cleanup_error_ struct st_error *error = NULL;
        struct pending *pending;
        struct worker *worker = NULL;
        struct job_caller caller;
        int r;

        if (!check_identity(service, call, &identity))
                return;
        manage = manage || (req->has_action && req->action != DAEMON__RUN_ACTION__START_NEW);
        pending = pending_new(service, call,
                              manage ? STASIS__WORKER__OPERATION_KIND__MANAGE : STASIS__WORKER__OPERATION_KIND__RUN,
                              events);
        /* To wait for something that may never come is of no use to nobody. */
        if (req->has_action && req->action == DAEMON__RUN_ACTION__MANAGE_UPCOMING)
                pending->goes_on = false;
        caller = service_caller(pending->service, pending->call);
        r = jobs_run(service->jobs, message_copy(&req->base), manage, &caller, &callbacks, pending, &worker, &error);
        begun(pending, r, worker, error);
}

void service_log_refusal(const struct rpc_call *call, struct st_error *error) {
        _cleanup_free_ char *caller = caller_describe(rpc_call_peer(call));

        st_log_warning("refused %s, for %s: %s", rpc_call_method(call), caller, st_error_message(error));
}
