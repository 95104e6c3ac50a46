/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis freeze TYPE …` and `stasis unfreeze TYPE …` */

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/dump.h"
#include "cli/freeze.h"
#include "cli/output.h"
#include "cli/request.h"

#define NO_SERVER \
        { .flag = "no-server", .type = ST_OPTION_BOOL, .help = "do it in this process, without the daemon" }

static const struct st_option freeze_options[] = { NO_SERVER, ST_OPTION_END };

static const struct st_option unfreeze_options[] = {
        { .flag = "force",
          .type = ST_OPTION_BOOL,
          .help = "also what was not frozen by stasis: thaw its cgroup if it holds nobody else, continue what is "
                  "stopped" },
        NO_SERVER,
        ST_OPTION_END,
};

static const struct st_dump_command freeze_process = {
        .command = {
                .type = "process",
                .words = "PID",
                .summary = "Freezes a process and its children until they are unfrozen",
                .example = "freeze process 42",
        },
        .fill = request_fill_process,
};

static const struct st_dump_command unfreeze_process = {
        .command = {
                .type = "process",
                .words = "PID",
                .summary = "Lets a frozen process and its children run again",
                .example = "unfreeze process 42",
        },
        .fill = request_fill_process,
};

static const struct st_dump_command freeze_job = {
        .command = {
                .type = "job",
                .words = "JID",
                .summary = "Freezes a job until it is unfrozen",
                .example = "freeze job calm-otter",
        },
        .fill = request_fill_job,
};

static const struct st_dump_command unfreeze_job = {
        .command = {
                .type = "job",
                .words = "JID",
                .summary = "Lets a frozen job run again",
                .example = "unfreeze job calm-otter",
        },
        .fill = request_fill_job,
};

int freeze_request(const struct st_dump_command *type, bool freeze, const struct st_arguments *arguments,
                   Daemon__DumpReq **ret, struct st_error **err) {
        _cleanup_(message_freep) Daemon__DumpReq *req = message_new(&daemon__dump_req__descriptor);
        int r;

        message_set_string(&req->type, type->command.type);
        req->details = message_new(&daemon__details__descriptor);
        req->has_action = 1;
        req->action = freeze ? DAEMON__DUMP_ACTION__FREEZE_ONLY : DAEMON__DUMP_ACTION__UNFREEZE_ONLY;
        if (!freeze && st_arguments_bool(arguments, "force"))
                req->has_force = req->force = 1;
        r = type->fill(arguments, req, err);
        if (r < 0)
                return st_error_wrap(err, "%s %s", freeze ? "freeze" : "unfreeze", type->command.type);
        *ret = TAKE_PTR(req);
        return 0;
}

static void print(const struct cli *cli, const Daemon__DumpReq *req, const Daemon__DumpResp *resp, const char *target,
                  const char *done) {
        if (!cli->json) {
                output_messages(resp->messages, resp->n_messages);
                printf("%s %s\n", done, target);
                return;
        }

        json_t *object = json_object();
        json_object_set_new(object, "type", output_text_json(req->type));
        if (req->details->jid)
                json_object_set_new(object, "jid", output_text_json(req->details->jid));
        if (req->details->process && req->details->process->has_pid)
                json_object_set_new(object, "pid", json_integer(req->details->process->pid));
        json_object_set_new(object, "messages", output_messages_json(resp->messages, resp->n_messages));
        if (resp->state)
                json_object_set_new(object, "state", message_to_json(&resp->state->base));
        output_json(object);
}

static int run(struct cli *cli, bool freeze, struct st_error **err) {
        const struct st_dump_command *type = (const struct st_dump_command *)cli->type;
        _cleanup_(message_freep) Daemon__DumpReq *req = NULL;
        _cleanup_(message_freep) Daemon__DumpResp *resp = NULL;
        _cleanup_free_ char *target = request_target(type->command.type, cli->arguments), *outcome = NULL;
        int r;

        r = freeze_request(type, freeze, cli->arguments, &req, err);
        if (r < 0)
                return r;
        cli_begin_work(cli);
        outcome = xasprintf(freeze ? "%s goes on running" : "%s stays as it was", target);
        r = dump_operate(cli, req, outcome, &resp, err);
        if (r < 0)
                return r;
        print(cli, req, resp, target, freeze ? "froze" : "unfroze");
        return EXIT_OK;
}

static int run_freeze(struct cli *cli, struct st_error **err) {
        return run(cli, true, err);
}

static int run_unfreeze(struct cli *cli, struct st_error **err) {
        return run(cli, false, err);
}

const struct command command_freeze = {
        .path = "freeze",
        .summary = "Freezes what runs, until it is unfrozen",
        .examples = "freeze process 42",
        .options = (const struct st_option *const[]){ freeze_options, NULL },
        .config = true,
        .types = (const struct st_command *const[]){ &freeze_process.command, &freeze_job.command, NULL },
        .type_feature = ST_FEATURE_freeze_command,
        .run = run_freeze,
};

const struct command command_unfreeze = {
        .path = "unfreeze",
        .summary = "Lets run again what was frozen",
        .examples = "unfreeze process 42",
        .options = (const struct st_option *const[]){ unfreeze_options, NULL },
        .config = true,
        .types = (const struct st_command *const[]){ &unfreeze_process.command, &unfreeze_job.command, NULL },
        .type_feature = ST_FEATURE_unfreeze_command,
        .run = run_unfreeze,
};
