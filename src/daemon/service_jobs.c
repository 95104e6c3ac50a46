/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service_jobs.h"

#include <stasis/log.h>

#include <daemon/checkpoint.pb-c.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "daemon/attach.h"
#include "daemon/service.h"
#include "daemon/service_calls.h"

/** Answers with the message, or with the error. */
static void answer(struct rpc_call *call, const ProtobufCMessage *response, struct st_error *error) {
        if (!error)
                (void)rpc_call_send(call, response);
        rpc_call_finish(call, error);
}

static void log_request(const struct rpc_call *call, const char *what, char *const *jids, size_t n_jids) {
        _cleanup_free_ char *caller = caller_describe(rpc_call_peer(call));
        const char *first = n_jids > 0 ? jids[0] : "all jobs";

        st_log_info("%s of %s%s, for %s", what, first, n_jids > 1 ? " and others" : "", caller);
}

void service_attach(struct rpc_call *call, void *userdata) {
        const Daemon__AttachReq *req = rpc_call_request(call);
        struct service *service = userdata;
        _cleanup_error_ struct st_error *error = NULL;
        struct job_process process;

        if (req->pid == 0 || req->pid > INT32_MAX)
                st_error_set(&error, EINVAL, "the first message of an attach names no PID");
        else if (jobs_find_process(service->jobs, (pid_t)req->pid, &process, &error) >= 0) {
                attach_start(service->loop, call, &process);
                return;
        }
        rpc_call_finish(call, error);
}

void service_get(struct rpc_call *call, void *userdata) {
        const Daemon__GetReq *req = rpc_call_request(call);
        struct service *service = userdata;
        _cleanup_(message_freep) Daemon__GetResp *resp = message_new(&daemon__get_resp__descriptor);
        _cleanup_error_ struct st_error *error = NULL;
        struct db_job job;

        if (jobs_get(service->jobs, req->jid ?: "", &job, &error) >= 0) {
                resp->job = jobs_describe(&job);
                db_job_clear(&job);
        }
        answer(call, &resp->base, error);
}

void service_list(struct rpc_call *call, void *userdata) {
        const Daemon__ListReq *req = rpc_call_request(call);
        struct service *service = userdata;
        _cleanup_(message_freep) Daemon__ListResp *resp = message_new(&daemon__list_resp__descriptor);
        _cleanup_error_ struct st_error *error = NULL;

        (void)jobs_list(service->jobs, req->jids, req->n_jids, resp, &error);
        answer(call, &resp->base, error);
}

void service_list_jobs(struct rpc_call *call, void *userdata) {
        struct service *service = userdata;
        _cleanup_(message_freep) Stasis__V1__ListJobsResp *resp = message_new(&stasis__v1__list_jobs_resp__descriptor);
        _cleanup_error_ struct st_error *error = NULL;

        (void)jobs_list_infos(service->jobs, rpc_call_request(call), resp, &error);
        for (size_t i = 0; i < resp->n_jobs; i++) {
                resp->jobs[i]->next = policies_next(service->policies, resp->jobs[i]->spec->jid);
                resp->jobs[i]->has_next = resp->jobs[i]->next > 0;
        }
        answer(call, &resp->base, error);
}

static void on_killed(Daemon__KillResp *response, struct st_error *error, void *userdata) {
        _cleanup_(message_freep) Daemon__KillResp *resp = response;

        answer(userdata, resp ? &resp->base : NULL, error);
}

void service_kill(struct rpc_call *call, void *userdata) {
        const Daemon__KillReq *req = rpc_call_request(call);
        const struct service *service = userdata;
        struct job_caller caller = service_caller(service, call);

        log_request(call, "kill", req->jids, req->n_jids);
        jobs_kill(service->jobs, req->jids, req->n_jids, req->signal, &caller, on_killed, call);
}

static void on_deleted(Daemon__DeleteResp *response, struct st_error *error, void *userdata) {
        _cleanup_(message_freep) Daemon__DeleteResp *resp = response;

        answer(userdata, resp ? &resp->base : NULL, error);
}

void service_delete(struct rpc_call *call, void *userdata) {
        const Daemon__DeleteReq *req = rpc_call_request(call);
        const struct service *service = userdata;
        struct job_caller caller = service_caller(service, call);

        log_request(call, "delete", req->jids, req->n_jids);
        jobs_delete(service->jobs, req->jids, req->n_jids, &caller, on_deleted, call);
}

void service_get_checkpoint(struct rpc_call *call, void *userdata) {
        struct service *service = userdata;
        _cleanup_(message_freep) Daemon__GetCheckpointResp *resp =
                message_new(&daemon__get_checkpoint_resp__descriptor);
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = NULL;
        _cleanup_error_ struct st_error *error = NULL;

        if (checkpoints_get(service->jobs, rpc_call_request(call), &info, &error) >= 0 && info)
                resp->checkpoint = checkpoint_describe(info);
        answer(call, &resp->base, error);
}

void service_list_checkpoint_infos(struct rpc_call *call, void *userdata) {
        const Stasis__V1__ListCheckpointsReq *req = rpc_call_request(call);
        struct service *service = userdata;
        _cleanup_(message_freep) Stasis__V1__ListCheckpointsResp *resp =
                message_new(&stasis__v1__list_checkpoints_resp__descriptor);
        _cleanup_error_ struct st_error *error = NULL;

        (void)checkpoints_list(service->jobs, req->jid, req->id, resp, &error);
        answer(call, &resp->base, error);
}

void service_list_checkpoints(struct rpc_call *call, void *userdata) {
        const Daemon__ListCheckpointsReq *req = rpc_call_request(call);
        struct service *service = userdata;
        _cleanup_(message_freep) Daemon__ListCheckpointsResp *resp =
                message_new(&daemon__list_checkpoints_resp__descriptor);
        _cleanup_(message_freep) Stasis__V1__ListCheckpointsResp *infos =
                message_new(&stasis__v1__list_checkpoints_resp__descriptor);
        _cleanup_error_ struct st_error *error = NULL;

        if (checkpoints_list(service->jobs, req->jid, NULL, infos, &error) >= 0)
                for (size_t i = 0; i < infos->n_checkpoints; i++)
                        message_append(&resp->n_checkpoints, &resp->checkpoints,
                                       checkpoint_describe(infos->checkpoints[i]));
        answer(call, &resp->base, error);
}

static void on_checkpoint_deleted(struct st_error *error, void *userdata) {
        const Daemon__DeleteCheckpointResp resp = DAEMON__DELETE_CHECKPOINT_RESP__INIT;

        answer(userdata, &resp.base, error);
}

void service_delete_checkpoint(struct rpc_call *call, void *userdata) {
        const Daemon__DeleteCheckpointReq *req = rpc_call_request(call);
        const struct service *service = userdata;
        struct job_caller caller = service_caller(service, call);

        checkpoints_delete(service->jobs, req->id, &caller, on_checkpoint_deleted, call);
}

static void on_checkpoint_folded(struct st_error *error, void *userdata) {
        const Stasis__V1__FoldCheckpointResp resp = STASIS__V1__FOLD_CHECKPOINT_RESP__INIT;

        answer(userdata, &resp.base, error);
}

void service_fold_checkpoint(struct rpc_call *call, void *userdata) {
        const Stasis__V1__FoldCheckpointReq *req = rpc_call_request(call);
        const struct service *service = userdata;
        struct job_caller caller = service_caller(service, call);

        checkpoints_fold(service->jobs, req->id, &caller, on_checkpoint_folded, call);
}
