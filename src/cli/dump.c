/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis dump TYPE …` */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/options.h"
#include "base/text.h"
#include "cli/checkpoints.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/dump.h"
#include "cli/operation.h"
#include "cli/output.h"
#include "cli/request.h"
#include "engine/engine.h"
#include "engine/settings.h"

static const struct st_option dump_options[] = {
        { .flag = "name",
          .type = ST_OPTION_STRING,
          .value_name = "NAME",
          .help = "name of the checkpoint in its directory; made from type, ID and time when not given" },
        { .flag = "parent",
          .type = ST_OPTION_STRING,
          .value_name = "PATH|ID",
          .help = "an earlier checkpoint of the format image: what has not changed since is not stored again" },
        { .flag = "stop", .type = ST_OPTION_BOOL, .help = "end the target once the checkpoint is safe on disk" },
        { .flag = "tcp-established",
          .type = ST_OPTION_BOOL,
          .value_name = "BOOL",
          .help = "save TCP connections that are in use; detected when not given" },
        { .flag = "skip-in-flight",
          .type = ST_OPTION_BOOL,
          .value_name = "BOOL",
          .help = "leave out TCP connections that are being made" },
        { .flag = "shell-job",
          .type = ST_OPTION_BOOL,
          .value_name = "BOOL",
          .help = "the target runs on somebody's terminal; detected when not given" },
        { .flag = "file-locks", .type = ST_OPTION_BOOL, .value_name = "BOOL", .help = "save file locks" },
        { .flag = "link-remap",
          .type = ST_OPTION_BOOL,
          .value_name = "BOOL",
          .help = "give deleted files that are open a name, so that they can be found again" },
        { .flag = "external",
          .type = ST_OPTION_LIST,
          .value_name = "RESOURCE",
          .help = "a resource that the restore will supply (criu(8), --external)" },
        { .flag = "criu-opts",
          .type = ST_OPTION_STRING,
          .value_name = "JSON",
          .help = "further options of CRIU, named as in its rpc.proto: '{\"ghost_limit\": 1000000}'" },
        { .flag = "hook",
          .type = ST_OPTION_LIST,
          .value_name = "WHEN=PROGRAM",
          .help = "run a program besides those configured; WHEN is pre-dump, post-thaw or post-dump" },
        { .flag = "no-server", .type = ST_OPTION_BOOL, .help = "do it in this process, without the daemon" },
        { .flag = "result-file",
          .type = ST_OPTION_STRING,
          .value_name = "FILE",
          .help = "write the path of the checkpoint to a file after success" },
        ST_OPTION_END,
};

static const struct criu_flag dump_flags[] = {
        { "tcp-established", "tcp_established" },
        { "skip-in-flight", "tcp_skip_in_flight" },
        { "shell-job", "shell_job" },
        { "file-locks", "file_locks" },
        { "link-remap", "link_remap" },
        { NULL, NULL },
};

static const struct st_dump_command dump_process = {
        .command = {
                .type = "process",
                .words = "PID",
                .summary = "Saves a process and its children in a checkpoint",
                .example = "dump process 42 --dir /var/backups --name web",
        },
        .fill = request_fill_process,
};

static const struct st_option job_options[] = {
        { .flag = "allow-orphans",
          .type = ST_OPTION_BOOL,
          .help = "leave out processes that the job has left behind outside its tree, rather than refuse" },
        ST_OPTION_END,
};

static int fill_job(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err) {
        if (st_arguments_bool(arguments, "allow-orphans"))
                req->has_alloworphans = req->alloworphans = 1;
        return request_fill_job(arguments, req, err);
}

static const struct st_dump_command dump_job = {
        .command = {
                .type = "job",
                .words = "JID",
                .summary = "Saves a job in a checkpoint, which 'restore job' finds by the name of the job",
                .example = "dump job calm-otter --stop",
                .options = job_options,
        },
        .fill = fill_job,
};

/* Did the user of this command line say it, by a flag or a variable? What is in files is the daemon's own business. */
static bool is_explicit(const struct st_arguments *arguments, const char *flag) {
        for (const struct st_option *row = settings_dump; row->flag; row++)
                if (streq(row->flag, flag))
                        return arguments_origin(arguments, row) >= ORIGIN_ENVIRONMENT;
        return false;
}

/* Sent only when a flag was given; else the configuration of the daemon decides. */
static int fill_leave_running(const struct st_arguments *arguments, Daemon__DumpReq *req, struct st_error **err) {
        bool stop_given = st_arguments_given(arguments, "stop"), stop = st_arguments_bool(arguments, "stop");
        bool leave_given = st_arguments_given(arguments, "leave-running");
        bool leave = st_arguments_bool(arguments, "leave-running");

        if (stop_given && leave_given && stop == leave)
                return st_error_set(err, EINVAL, "--stop and --leave-running contradict each other");
        if (stop_given || leave_given) {
                Criu__CriuOpts *criu = request_criu(&req->criu);

                criu->has_leave_running = 1;
                criu->leave_running = leave_given ? leave : !stop;
        }
        return 0;
}

int dump_request(const struct st_dump_command *type, const struct st_arguments *arguments, Daemon__DumpReq **ret,
                 struct st_error **err) {
        _cleanup_(message_freep) Daemon__DumpReq *req = message_new(&daemon__dump_req__descriptor);
        int r;

        message_set_string(&req->type, type->command.type);
        req->details = message_new(&daemon__details__descriptor);
        if (is_explicit(arguments, "dir"))
                request_set_path(&req->dir, arguments, "dir");
        if (is_explicit(arguments, "files"))
                message_set_string(&req->files, st_arguments_string(arguments, "files"));
        if (is_explicit(arguments, "compression"))
                message_set_string(&req->compression, st_arguments_string(arguments, "compression"));
        if (is_explicit(arguments, "image-codec"))
                message_set_string(&req->imagecodec, st_arguments_string(arguments, "image-codec"));
        if (is_explicit(arguments, "capture"))
                message_set_string(&req->capture, st_arguments_string(arguments, "capture"));
        if (is_explicit(arguments, "streams")) {
                int64_t streams = st_arguments_int(arguments, "streams");

                if (streams < 0 || streams > INT32_MAX)
                        return st_error_set(err, EINVAL, "--streams: a checkpoint cannot be in %lld streams",
                                            (long long)streams);
                req->has_streams = 1;
                req->streams = (int32_t)streams;
        }
        if (st_arguments_given(arguments, "name"))
                message_set_string(&req->name, st_arguments_string(arguments, "name"));
        request_fill_hooks(arguments, &req->n_hooks, &req->hooks);
        r = request_fill_criu(arguments, dump_flags, &req->criu, &req->n_off, &req->off, err);
        if (r < 0)
                return r;
        r = fill_leave_running(arguments, req, err);
        if (r < 0)
                return r;
        r = type->fill(arguments, req, err);
        if (r < 0)
                return st_error_wrap(err, "dump %s", type->command.type);
        *ret = TAKE_PTR(req);
        return 0;
}

/* What cannot be written afterwards must be known before. */
static int check_result_file(const char *path, struct st_error **err) {
        int r = path ? io_can_put_file(path) : 0;

        return r < 0 ? st_error_errno(err, r, "cannot write %s", path) : 0;
}

static int write_result_file(const char *path, const char *checkpoint, struct st_error **err) {
        _cleanup_free_ char *text = NULL;
        int r;

        if (!path)
                return 0;
        text = xasprintf("%s\n", checkpoint);
        r = io_put_file(path, text, strlen(text), 0644);
        return r < 0 ? st_error_errno(err, r, "the checkpoint is %s, but %s cannot be written", checkpoint, path) : 0;
}

struct local_dump {
        Daemon__DumpReq *req;
        Daemon__DumpResp *resp;
};

static int dump_here(struct st_operation *operation, void *userdata, struct st_error **err) {
        struct local_dump *dump = userdata;

        return engine_dump(operation, dump->req, dump->resp, err);
}

int dump_operate(struct cli *cli, Daemon__DumpReq *req, const char *outcome, Daemon__DumpResp **ret,
                 struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__Event *event = NULL;
        int r;

        if (st_arguments_bool(cli->arguments, "no-server")) {
                struct local_dump dump = { req, *ret = message_new(&daemon__dump_resp__descriptor) };
                struct local_work work = { dump_here, &dump, outcome, true };

                return local_operate(cli, &work, err);
        }
        r = daemon_operate(cli, "/stasis.v1.Stasis/Dump", &req->base, outcome, &event, err);
        if (r < 0)
                return r;
        if (event->kind_case != STASIS__V1__EVENT__KIND_DUMP)
                return st_error_set(err, EPROTO, "the daemon answered something else than a dump");
        *ret = TAKE_PTR(event->dump);
        event->kind_case = STASIS__V1__EVENT__KIND__NOT_SET;
        return 0;
}

static int find_parent(struct cli *cli, Daemon__DumpReq *req, struct st_error **err) {
        const char *parent = st_arguments_string(cli->arguments, "parent");
        _cleanup_free_ char *path = NULL;
        int r;

        if (!st_arguments_given(cli->arguments, "parent"))
                return 0;
        if (isempty(parent))
                return st_error_set(err, EINVAL, "--parent: no checkpoint is named");
        r = checkpoint_resolve(cli, parent, &path, err);
        if (r >= 0)
                message_set_string(&req->parent, path);
        return r;
}

static void print_dump(const struct cli *cli, const Daemon__DumpReq *req, const Daemon__DumpResp *resp,
                       const char *target) {
        if (!cli->json) {
                output_messages(resp->messages, resp->n_messages);
                printf("dumped %s to %s\n", target, resp->paths[0]);
                return;
        }

        json_t *object = json_object();
        json_object_set_new(object, "type", output_text_json(req->type));
        json_object_set_new(object, "path", output_text_json(resp->paths[0]));
        json_object_set_new(object, "paths", output_messages_json(resp->paths, resp->n_paths));
        json_object_set_new(object, "messages", output_messages_json(resp->messages, resp->n_messages));
        if (req->details->jid)
                json_object_set_new(object, "jid", output_text_json(req->details->jid));
        if (resp->state && resp->state->has_pid)
                json_object_set_new(object, "pid", json_integer(resp->state->pid));
        output_json(object);
}

static int run_dump(struct cli *cli, struct st_error **err) {
        const struct st_dump_command *type = (const struct st_dump_command *)cli->type;
        const char *result_file = st_arguments_string(cli->arguments, "result-file");
        _cleanup_(message_freep) Daemon__DumpReq *req = NULL;
        _cleanup_(message_freep) Daemon__DumpResp *resp = NULL;
        _cleanup_free_ char *target = request_target(type->command.type, cli->arguments);
        _cleanup_free_ char *outcome = xasprintf("%s goes on running", target);
        int r;

        r = dump_request(type, cli->arguments, &req, err);
        if (r < 0)
                return r;
        cli_begin_work(cli);
        r = check_result_file(result_file, err);
        if (r >= 0)
                r = find_parent(cli, req, err);
        if (r < 0)
                return r;
        r = dump_operate(cli, req, outcome, &resp, err);
        if (r < 0)
                return r;
        if (resp->n_paths == 0)
                return st_error_set(err, EPROTO, "the dump succeeded, but nobody says where the checkpoint is");
        r = write_result_file(result_file, resp->paths[0], err);
        if (r < 0)
                return r;
        print_dump(cli, req, resp, target);
        return EXIT_OK;
}

const struct command command_dump = {
        .path = "dump",
        .summary = "Saves what runs in a checkpoint; it runs on unless told to stop",
        .examples = "dump process 42 --dir /var/backups\n"
                    "dump process 42 --dir /var/backups --parent /var/backups/web.stasis\n"
                    "dump job calm-otter",
        .options = (const struct st_option *const[]){ settings_dump, dump_options, NULL },
        .config = true,
        .types = (const struct st_command *const[]){ &dump_process.command, &dump_job.command, NULL },
        .type_feature = ST_FEATURE_dump_command,
        .run = run_dump,
};
