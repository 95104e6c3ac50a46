/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis run TYPE …`, and `stasis exec`, which is `run process`. */

#include "cli/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "cli/attach.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/identity.h"
#include "cli/job.h"
#include "cli/operation.h"
#include "cli/output.h"
#include "cli/policy.h"
#include "cli/request.h"
#include "cli/terminal.h"
#include "cli/wait.h"
#include "engine/engine.h"

static const struct st_option run_options[] = {
        { .flag = "jid",
          .letter = 'j',
          .type = ST_OPTION_STRING,
          .value_name = "JID",
          .help = "name of the job; two words are made up when not given" },
        { .flag = "attach",
          .letter = 'a',
          .type = ST_OPTION_BOOL,
          .help = "attach to the job, and end with its exit code" },
        { .flag = "attachable",
          .type = ST_OPTION_BOOL,
          .help = "let the job be attached to later; on a terminal when this command is" },
        { .flag = "out",
          .letter = 'o',
          .type = ST_OPTION_STRING,
          .value_name = "FILE",
          .help = "append the output of the job to this file, not to its log" },
        { .flag = "pid-file", .type = ST_OPTION_STRING, .value_name = "FILE", .help = "write the PID to a file" },
        { .flag = "init",
          .type = ST_OPTION_BOOL,
          .help = "run it below a small program that adopts what it leaves in the background, so that a dump has it" },
        { .flag = "no-server",
          .type = ST_OPTION_BOOL,
          .help = "run it as a child of this command, without the daemon: no job, but its exit code" },
        ST_OPTION_END,
};

static const struct st_option process_options[] = {
        { .flag = "as-root",
          .type = ST_OPTION_BOOL,
          .help = "run it with the IDs of root, all else as the caller has it" },
        ST_OPTION_END,
};

static int fill_process(const struct st_arguments *arguments, Daemon__RunReq *req, struct st_error **err) {
        const char *const *words = st_arguments_words(arguments);
        _cleanup_free_ char *path = NULL, *directory = NULL;
        int r;

        if (!words[0])
                return st_error_set(err, EINVAL, "PATH is missing");
        directory = getcwd(NULL, 0);
        if (!directory)
                return st_error_errno(err, errno, "cannot find out the current directory");
        r = identity_find_command(words[0], &path, err);
        if (r < 0)
                return r;

        Daemon__Process *process = req->details->process = message_new(&daemon__process__descriptor);
        message_set_string(&process->path, path);
        message_set_string(&process->workingdir, directory);
        for (size_t i = 1; words[i]; i++)
                message_append(&process->n_args, &process->args, xstrdup(words[i]));
        return 0;
}

static const struct st_run_command run_process = {
        .command = {
                .type = "process",
                .words = "PATH [ARG…]",
                .summary = "Starts a program as a job, with the identity and surroundings of the caller",
                .example = "run process --jid train python3 train.py --epochs 90",
                .options = process_options,
        },
        .fill = fill_process,
};

/* Both streams of the user are on a terminal: so are the job's. */
static void fill_terminal(Daemon__RunReq *req) {
        if (terminal_is_ours())
                req->terminal = terminal_size(STDIN_FILENO);
}

/* What is wrong is said before anything is started. */
static int check(const struct st_arguments *arguments, struct st_error **err) {
        static const char *const flags[] = { "attach", "no-server" };
        int r = attach_check(arguments, err);

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(flags); i++)
                if (st_arguments_bool(arguments, flags[i]) && st_arguments_bool(arguments, "json"))
                        r = st_error_set(err, EINVAL, "--%s and --json contradict each other: the output is the job's",
                                         flags[i]);
        return r;
}

int run_request(const struct st_run_command *type, const struct st_arguments *arguments, Daemon__RunReq **ret,
                struct st_error **err) {
        _cleanup_(message_freep) Daemon__RunReq *req = message_new(&daemon__run_req__descriptor);
        bool server = !st_arguments_bool(arguments, "no-server");
        bool attach = server && st_arguments_bool(arguments, "attach");
        int r = check(arguments, err);

        if (r < 0)
                return r;
        message_set_string(&req->type, type->command.type);
        req->details = message_new(&daemon__details__descriptor);
        req->has_action = 1;
        req->action = DAEMON__RUN_ACTION__START_NEW;
        r = request_new_jid(arguments, &req->jid, err);
        if (r < 0)
                return r;
        request_set_path(&req->pidfile, arguments, "pid-file");
        request_set_path(&req->log, arguments, "out");
        if (attach || (server && st_arguments_bool(arguments, "attachable"))) {
                req->has_attachable = req->attachable = 1;
                fill_terminal(req);
        }
        if (attach)
                req->has_waitfirstmaster = req->waitfirstmaster = 1;
        if (st_arguments_bool(arguments, "init"))
                req->has_init = req->init = 1;
        r = policy_from_arguments(arguments, &req->policy, err);
        if (r >= 0 && req->policy && !server)
                r = st_error_set(err, EINVAL, "--every, --keep and --restart need the daemon, not --no-server");
        if (r >= 0)
                r = identity_fill(req, st_arguments_bool(arguments, "as-root"), err);
        if (r < 0)
                return r;
        r = type->fill(arguments, req, err);
        if (r < 0)
                return st_error_wrap(err, "run %s", type->command.type);
        *ret = TAKE_PTR(req);
        return 0;
}

int run_by_daemon(struct cli *cli, const char *method, const Daemon__RunReq *req, const char *outcome,
                  Daemon__RunResp **ret, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__Event *event = NULL;
        int r = daemon_operate(cli, method, &req->base, outcome, &event, err);

        if (r < 0)
                return r;
        if (event->kind_case != STASIS__V1__EVENT__KIND_RUN)
                return st_error_set(err, EPROTO, "the daemon answered something else than a job");
        *ret = TAKE_PTR(event->run);
        event->kind_case = STASIS__V1__EVENT__KIND__NOT_SET;
        return 0;
}

/* Where its output goes; the daemon chose it when nobody named a file. malloc'ed, NULL: not known */
static char *log_of(struct cli *cli, const Daemon__RunReq *req, const Daemon__RunResp *resp) {
        _cleanup_(message_freep) Stasis__V1__ListJobsResp *jobs = NULL;

        if (!isempty(req->log) || isempty(resp->jid))
                return xstrdup(req->log);
        return job_ask_one(cli, resp->jid, false, &jobs, NULL) < 0 ? NULL : xstrdup(jobs->jobs[0]->spec->log);
}

int run_print(struct cli *cli, const char *done, const Daemon__RunReq *req, const Daemon__RunResp *resp) {
        if (!cli->json) {
                output_messages(resp->messages, resp->n_messages);
                if (isempty(resp->jid))
                        printf("%s process %u\n", done, resp->pid);
                else
                        printf("%s job %s, process %u\n", done, resp->jid, resp->pid);
                fflush(stdout); /* before what the process prints; a failure shows at the end */
                return EXIT_OK;
        }

        _cleanup_free_ char *log = log_of(cli, req, resp);
        json_t *object = json_object();
        json_object_set_new(object, "type", output_text_json(req->type));
        json_object_set_new(object, "jid", isempty(resp->jid) ? json_null() : output_text_json(resp->jid));
        json_object_set_new(object, "pid", json_integer(resp->pid));
        json_object_set_new(object, "log", isempty(log) ? json_null() : output_text_json(log));
        json_object_set_new(object, "messages", output_messages_json(resp->messages, resp->n_messages));
        output_json(object);
        fflush(stdout);
        return EXIT_OK;
}

struct local_run {
        Daemon__RunReq *req;
        Daemon__RunResp *resp;
        struct engine_started started;
};

static void local_run_clear(struct local_run *run) {
        engine_started_clear(&run->started);
}

static int run_here(struct st_operation *operation, void *userdata, struct st_error **err) {
        struct local_run *run = userdata;

        return engine_run(operation, run->req, run->resp, &run->started, err);
}

static void warn_of_flags(const struct st_arguments *arguments) {
        static const char *const flags[] = { "attach", "attachable", "jid" };

        for (size_t i = 0; i < ELEMENTSOF(flags); i++)
                if (st_arguments_given(arguments, flags[i]))
                        output_talk("--%s is not needed with --no-server: the process is a child of this command",
                                    flags[i]);
}

/* Its streams are ours: nothing else is printed. */
static int run_locally(struct cli *cli, Daemon__RunReq *req, const char *outcome, struct st_error **err) {
        _cleanup_(message_freep) Daemon__RunResp *resp = message_new(&daemon__run_resp__descriptor);
        _cleanup_(local_run_clear) struct local_run run = { req, resp, ENGINE_STARTED_NULL };
        struct local_work work = { run_here, &run, outcome, true };
        int r;

        warn_of_flags(cli->arguments);
        r = local_operate(cli, &work, err);
        if (r < 0)
                return r;
        output_messages(resp->messages, resp->n_messages);
        return run.started.child > 0 ? wait_for_process(run.started.child, run.started.stdio.terminal, err) : EXIT_OK;
}

static int run_type(struct cli *cli, const struct st_run_command *type, struct st_error **err) {
        static const char outcome[] = "nothing was started";
        _cleanup_(message_freep) Daemon__RunReq *req = NULL;
        _cleanup_(message_freep) Daemon__RunResp *resp = NULL;
        int r;

        r = run_request(type, cli->arguments, &req, err);
        if (r == -ENOENT || r == -EACCES || r == -EISDIR)
                cli_begin_work(cli); /* the command line is right, what it names is not */
        if (r < 0)
                return r;
        cli_begin_work(cli);
        if (st_arguments_bool(cli->arguments, "no-server"))
                return run_locally(cli, req, outcome, err);
        r = run_by_daemon(cli, "/stasis.v1.Stasis/Run", req, outcome, &resp, err);
        if (r < 0)
                return r;
        if (!st_arguments_bool(cli->arguments, "attach"))
                return run_print(cli, "running", req, resp);

        output_messages(resp->messages, resp->n_messages);
        const struct attaching attaching = { .pid = resp->pid, .jid = resp->jid, .fresh = true };
        return attach(cli, &attaching, err);
}

static int run_run(struct cli *cli, struct st_error **err) {
        return run_type(cli, (const struct st_run_command *)cli->type, err);
}

static int run_exec(struct cli *cli, struct st_error **err) {
        return run_type(cli, &run_process, err);
}

const struct command command_run = {
        .path = "run",
        .summary = "Starts a job",
        .examples = "run process --jid train python3 train.py\nrun process --attach sh -c 'echo hello; exit 42'",
        .options = (const struct st_option *const[]){ run_options, policy_options, attach_options, NULL },
        .config = true,
        .types = (const struct st_command *const[]){ &run_process.command, NULL },
        .type_feature = ST_FEATURE_run_command,
        .run = run_run,
};

const struct command command_exec = {
        .path = "exec",
        .words = "PATH [ARG…]",
        .min_words = 1,
        .max_words = SIZE_MAX,
        .summary = "Starts a program as a job: the same as 'run process'",
        .examples = "exec --attach vim notes.txt\nexec --jid web -- nginx -g 'daemon off;'",
        .options =
                (const struct st_option *const[]){ process_options, run_options, policy_options, attach_options, NULL },
        .config = true,
        .run = run_exec,
};
