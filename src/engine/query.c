/* SPDX-License-Identifier: Apache-2.0 */
#include <stasis/features.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/engine.h"
#include "process/analysis.h"

static int query_processes(struct st_operation *operation, const Daemon__QueryReq *req, Daemon__QueryResp *resp,
                           struct st_error **err) {
        unsigned detail = (req->has_brief && req->brief ? PROCESS_BASIC : PROCESS_INSPECT | PROCESS_HOST) |
                          (req->has_tree && req->tree ? PROCESS_TREE : 0);

        if (req->n_pids == 0)
                return st_error_set(err, EINVAL, "the query names no process");
        for (size_t i = 0; i < req->n_pids; i++) {
                _cleanup_error_ struct st_error *error = NULL;
                Daemon__ProcessState *state = NULL;
                int r = st_operation_check_cancelled(operation, &error);

                if (r >= 0 && req->pids[i] > INT32_MAX)
                        r = st_error_set(&error, EINVAL, "%u is no PID", req->pids[i]);
                if (r >= 0)
                        r = process_state_read((pid_t)req->pids[i], detail, &state, &error);
                if (r >= 0)
                        message_append(&resp->n_states, &resp->states, state);
                else if (r == -ESRCH && req->n_pids > 1) /* of several, those that there are */
                        message_append(&resp->n_messages, &resp->messages, xstrdup(st_error_message(error)));
                else
                        return st_error_move(err, TAKE_PTR(error));
        }
        if (resp->n_states == 0)
                return st_error_set(err, ESRCH, "%s", resp->messages[0]);
        return 0;
}

struct query {
        struct st_operation *operation;
        const Daemon__QueryReq *req;
        Daemon__QueryResp *resp;
};

static int query_plugin(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_query_handler *handler = value;
        const struct query *query = userdata;

        (void)plugin;
        return handler->run(query->operation, query->req, query->resp, err);
}

int engine_query(struct st_operation *operation, Daemon__QueryReq *req, Daemon__QueryResp *resp,
                 struct st_error **err) {
        struct query query = { operation, req, resp };
        int r;

        if (isempty(req->type) || streq(req->type, "process"))
                return query_processes(operation, req, resp, err);
        r = feature_if_available(query_handler, query_plugin, &query, err, req->type);
        if (r == -EOPNOTSUPP)
                st_error_hint(err, "see 'stasis features --errors'");
        return r;
}
