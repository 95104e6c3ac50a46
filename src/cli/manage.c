/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis manage TYPE …`: what runs already becomes a job. */

#include <errno.h>

#include "base/cleanup.h"
#include "base/messages.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/manage.h"
#include "cli/operation.h"
#include "cli/policy.h"
#include "cli/request.h"
#include "cli/run.h"

static const struct st_option manage_options[] = {
        { .flag = "jid",
          .letter = 'j',
          .type = ST_OPTION_STRING,
          .value_name = "JID",
          .help = "name of the job; two words are made up when not given" },
        { .flag = "pid-file", .type = ST_OPTION_STRING, .value_name = "FILE", .help = "write the PID to a file" },
        { .flag = "upcoming",
          .type = ST_OPTION_BOOL,
          .help = "wait for it to appear; not of a process, whose PID nobody knows before" },
        ST_OPTION_END,
};

static int fill_process(const struct st_arguments *arguments, Daemon__RunReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);

        if (st_arguments_bool(arguments, "upcoming")) {
                st_error_set(err, EINVAL, "--upcoming: a process that is not there yet has no PID to wait for");
                st_error_hint(err, "start it with 'stasis run process'");
                return -EINVAL;
        }
        return request_pid(words, &req->details->process, err);
}

static const struct st_run_command manage_process = {
        .command = {
                .type = "process",
                .words = "PID",
                .summary = "Takes a process over as a job: its end is noticed, but not its exit code; it cannot be "
                           "attached to",
                .example = "manage process 42 --jid db",
        },
        .fill = fill_process,
};

int manage_request(const struct st_run_command *type, const struct st_arguments *arguments, Daemon__RunReq **ret,
                   struct st_error **err) {
        _cleanup_(message_freep) Daemon__RunReq *req = message_new(&daemon__run_req__descriptor);
        int r;

        message_set_string(&req->type, type->command.type);
        req->details = message_new(&daemon__details__descriptor);
        req->has_action = 1;
        req->action = st_arguments_bool(arguments, "upcoming") ? DAEMON__RUN_ACTION__MANAGE_UPCOMING
                                                               : DAEMON__RUN_ACTION__MANAGE_EXISTING;
        r = request_new_jid(arguments, &req->jid, err);
        if (r < 0)
                return r;
        request_set_path(&req->pidfile, arguments, "pid-file");
        r = policy_from_arguments(arguments, &req->policy, err);
        if (r < 0)
                return r;
        r = type->fill(arguments, req, err);
        if (r < 0)
                return st_error_wrap(err, "manage %s", type->command.type);
        *ret = TAKE_PTR(req);
        return 0;
}

static int run_manage(struct cli *cli, struct st_error **err) {
        const struct st_run_command *type = (const struct st_run_command *)cli->type;
        _cleanup_(message_freep) Daemon__RunReq *req = NULL;
        _cleanup_(message_freep) Daemon__RunResp *resp = NULL;
        int r;

        r = manage_request(type, cli->arguments, &req, err);
        if (r < 0)
                return r;
        cli_begin_work(cli);
        r = run_by_daemon(cli, "/stasis.v1.Stasis/Manage", req, "it is not managed", &resp, err);
        return r < 0 ? r : run_print(cli, "managing", req, resp);
}

const struct command command_manage = {
        .path = "manage",
        .summary = "Takes what runs already over as a job",
        .examples = "manage process 42",
        .options = (const struct st_option *const[]){ manage_options, policy_options, NULL },
        .config = true,
        .types = (const struct st_command *const[]){ &manage_process.command, NULL },
        .type_feature = ST_FEATURE_manage_command,
        .run = run_manage,
};
