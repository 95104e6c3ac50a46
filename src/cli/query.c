/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis query TYPE …` */

#include "cli/query.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/operation.h"
#include "cli/output.h"
#include "engine/engine.h"

static const struct st_option query_options[] = {
        { .flag = "tree", .letter = 't', .type = ST_OPTION_BOOL, .help = "show the children too" },
        { .flag = "inspect",
          .letter = 'i',
          .type = ST_OPTION_BOOL,
          .help = "show open files, connections and mounts too" },
        { .flag = "no-server", .type = ST_OPTION_BOOL, .help = "do it in this process, without the daemon" },
        ST_OPTION_END,
};

static int fill_process(const struct st_arguments *arguments, Daemon__QueryReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);

        if (!words[0])
                return st_error_set(err, EINVAL, "query process: PID is missing");
        for (; *words; words++) {
                pid_t pid;

                if (text_to_pid(*words, &pid) < 0)
                        return st_error_set(err, EINVAL, "not a PID: %s", *words);
                message_append(&req->n_pids, &req->pids, (uint32_t)pid);
        }
        return 0;
}

static const struct st_query_command query_process = {
        .command = {
                .type = "process",
                .words = "PID…",
                .summary = "Shows processes as a dump sees them",
                .example = "query process 42 --tree --inspect",
        },
        .fill = fill_process,
};

int query_request(const struct st_query_command *type, const struct st_arguments *arguments, Daemon__QueryReq **ret,
                  struct st_error **err) {
        _cleanup_(message_freep) Daemon__QueryReq *req = message_new(&daemon__query_req__descriptor);
        int r;

        message_set_string(&req->type, type->command.type);
        req->has_tree = 1;
        req->tree = st_arguments_bool(arguments, "tree");
        r = type->fill(arguments, req, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(req);
        return 0;
}

struct local_query {
        Daemon__QueryReq *req;
        Daemon__QueryResp *resp;
};

static int query_here(struct st_operation *operation, void *userdata, struct st_error **err) {
        struct local_query *query = userdata;

        return engine_query(operation, query->req, query->resp, err);
}

static int do_query(struct cli *cli, Daemon__QueryReq *req, Daemon__QueryResp **ret, struct st_error **err) {
        if (!st_arguments_bool(cli->arguments, "no-server"))
                return daemon_call(cli, "/daemon.Daemon/Query", &req->base, &daemon__query_resp__descriptor, ret, err);

        struct local_query query = { req, *ret = message_new(&daemon__query_resp__descriptor) };
        struct local_work work = { query_here, &query, "nothing was changed", false };

        return local_operate(cli, &work, err);
}

static void print_json(const struct cli *cli, const Daemon__QueryResp *resp) {
        const struct st_query_command *type = (const struct st_query_command *)cli->type;

        /* A plugin's answer has more than states. */
        if (type != &query_process && resp->n_states == 0) {
                output_message_json(&resp->base);
                return;
        }
        for (size_t i = 0; i < resp->n_states; i++) {
                _cleanup_free_ char *text = message_to_json_text(&resp->states[i]->base, 1);

                (void)fputs(i > 0 ? ",\n  " : "[\n  ", stdout); /* a failure shows in output_flush() */
                (void)fputs(text, stdout);
        }
        (void)fputs(resp->n_states > 0 ? "\n]\n" : "[]\n", stdout);
}

static int run_query(struct cli *cli, struct st_error **err) {
        const struct st_query_command *type = (const struct st_query_command *)cli->type;
        _cleanup_(message_freep) Daemon__QueryReq *req = NULL;
        _cleanup_(message_freep) Daemon__QueryResp *resp = NULL;
        int r;

        r = query_request(type, cli->arguments, &req, err);
        if (r < 0)
                return r;
        /* What is not shown is not asked for: it takes long of a process with thousands of descriptors. */
        if (!cli->json && !st_arguments_bool(cli->arguments, "inspect"))
                req->has_brief = req->brief = 1;
        cli_begin_work(cli);
        r = do_query(cli, req, &resp, err);
        if (r < 0)
                return r;
        output_messages(resp->messages, resp->n_messages);
        if (cli->json) {
                print_json(cli, resp);
        } else {
                r = type->print ? type->print(cli->arguments, resp, err)
                                : query_print_states(resp->states, resp->n_states,
                                                     st_arguments_bool(cli->arguments, "inspect"), err);
                if (r < 0)
                        return r;
        }
        /* Those that there are have been shown; that some are missing is a failure all the same. */
        return resp->n_states < req->n_pids ? EXIT_FAILED : EXIT_OK;
}

const struct command command_query = {
        .path = "query",
        .summary = "Shows what runs",
        .examples = "query process 42 --tree",
        .options = (const struct st_option *const[]){ query_options, NULL },
        .config = true,
        .types = (const struct st_command *const[]){ &query_process.command, NULL },
        .type_feature = ST_FEATURE_query_command,
        .run = run_query,
};
