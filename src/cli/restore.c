/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis restore TYPE …` */

#include <unistd.h>
#include <fcntl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/messages.h"
#include "base/text.h"
#include "cli/attach.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/operation.h"
#include "cli/output.h"
#include "cli/preflight.h"
#include "cli/request.h"
#include "cli/restore.h"
#include "cli/terminal.h"
#include "cli/wait.h"
#include "engine/engine.h"
#include "engine/lazy_holder.h"

static const struct st_option restore_options[] = {
        { .flag = "path", .letter = 'p', .type = ST_OPTION_STRING, .value_name = "PATH", .help = "the checkpoint" },
        { .flag = "pid-file",
          .type = ST_OPTION_STRING,
          .value_name = "FILE",
          .help = "write the PID of the restored process to a file" },
        { .flag = "attach",
          .letter = 'a',
          .type = ST_OPTION_BOOL,
          .help = "attach to what is restored, and end with its exit code" },
        { .flag = "attachable",
          .type = ST_OPTION_BOOL,
          .help = "let it be attached to later; as it was when not given, for a job" },
        { .flag = "out",
          .letter = 'o',
          .type = ST_OPTION_STRING,
          .value_name = "FILE",
          .help = "where the output goes that went into a pipe to a process outside the checkpoint, or to whoever was "
                  "attached" },
        { .flag = "tcp-established",
          .type = ST_OPTION_BOOL,
          .value_name = "BOOL",
          .help = "restore TCP connections; as they were saved when not given" },
        { .flag = "tcp-close",
          .type = ST_OPTION_BOOL,
          .value_name = "BOOL",
          .help = "restore TCP connections as closed ones" },
        { .flag = "shell-job",
          .type = ST_OPTION_BOOL,
          .value_name = "BOOL",
          .help = "the process ran on somebody's terminal; as it was saved when not given" },
        { .flag = "file-locks", .type = ST_OPTION_BOOL, .value_name = "BOOL", .help = "restore file locks" },
        { .flag = "link-remap",
          .type = ST_OPTION_BOOL,
          .value_name = "BOOL",
          .help = "find deleted files by the names that the dump gave them" },
        { .flag = "external",
          .type = ST_OPTION_LIST,
          .value_name = "RESOURCE",
          .help = "a resource to supply (criu(8), --external)" },
        { .flag = "files",
          .type = ST_OPTION_STRING,
          .value_name = "HOW",
          .help = "files that changed since the dump: 'check' refuses, 'rollback' puts them back, 'keep' uses them as "
                  "they are; 'rollback,keep' keeps what cannot be put back",
          .choices = "check|rollback|keep|rollback,keep" },
        { .flag = "criu-opts",
          .type = ST_OPTION_STRING,
          .value_name = "JSON",
          .help = "further options of CRIU, named as in its rpc.proto: '{\"weak_sysctls\": true}'" },
        { .flag = "leave-stopped",
          .type = ST_OPTION_BOOL,
          .value_name = "BOOL",
          .help = "leave the process stopped; SIGCONT lets it run" },
        { .flag = "lazy",
          .type = ST_OPTION_BOOL,
          .help = "let it run at once, and read its memory meanwhile; of a checkpoint in the format 'image'" },
        { .flag = "hook",
          .type = ST_OPTION_LIST,
          .value_name = "post-restore=PROGRAM",
          .help = "run a program once the process runs, besides those configured" },
        { .flag = "check",
          .type = ST_OPTION_BOOL,
          .help = "only tell whether it could be restored here: nothing is started or changed" },
        { .flag = "no-server",
          .type = ST_OPTION_BOOL,
          .help = "do it in this process, without the daemon, and end with the exit code of the restored process" },
        ST_OPTION_END,
};

static const struct criu_flag restore_flags[] = {
        { "tcp-established", "tcp_established" },
        { "tcp-close", "tcp_close" },
        { "shell-job", "shell_job" },
        { "file-locks", "file_locks" },
        { "link-remap", "link_remap" },
        { "leave-stopped", "leave_stopped" },
        { NULL, NULL },
};

static int fill_process(const struct st_arguments *arguments, Daemon__RestoreReq *req, struct st_error **err) {
        const char *word = st_arguments_words(arguments)[0];

        if (word) {
                st_error_set(err, EINVAL, "restore process: unexpected argument '%s'", word);
                st_error_hint(err, "a checkpoint is named with --path");
                return -EINVAL;
        }
        if (isempty(req->path)) {
                st_error_set(err, EINVAL, "restore process: no checkpoint is named");
                st_error_hint(err, "name one with --path");
                return -EINVAL;
        }
        return 0;
}

static const struct st_restore_command restore_process = {
        .command = {
                .type = "process",
                .summary = "Restores a process and its children from a checkpoint, with their PIDs",
                .example = "restore process --path /var/backups/web.stasis",
        },
        .fill = fill_process,
};

static int fill_job(const struct st_arguments *arguments, Daemon__RestoreReq *req, struct st_error **err) {
        return request_jid(arguments, &req->details->jid, err);
}

static const struct st_restore_command restore_job = {
        .command = {
                .type = "job",
                .words = "JID",
                .summary = "Restores a job from its newest checkpoint, or from the one of --path",
                .example = "restore job calm-otter --attach",
        },
        .fill = fill_job,
};

/* As whose it can be attached to; a process that this command restores by itself is its child anyway. */
static int fill_attach(const struct st_arguments *arguments, Daemon__RestoreReq *req, struct st_error **err) {
        bool attach = st_arguments_bool(arguments, "attach");
        int r = attach_check(arguments, err);

        if (r < 0)
                return r;
        if (attach && (st_arguments_bool(arguments, "json") || st_arguments_bool(arguments, "check")))
                return st_error_set(err, EINVAL, "--attach and --%s contradict each other",
                                    st_arguments_bool(arguments, "check") ? "check" : "json");
        if (st_arguments_bool(arguments, "no-server"))
                return 0;
        if (attach || st_arguments_given(arguments, "attachable")) {
                req->has_attachable = 1;
                req->attachable = attach || st_arguments_bool(arguments, "attachable");
        }
        if (attach)
                req->has_waitfirstmaster = req->waitfirstmaster = 1;
        if (req->attachable && terminal_is_ours())
                req->terminal = terminal_size(STDIN_FILENO);
        return 0;
}

int restore_request(const struct st_restore_command *type, const struct st_arguments *arguments,
                    Daemon__RestoreReq **ret, struct st_error **err) {
        _cleanup_(message_freep) Daemon__RestoreReq *req = message_new(&daemon__restore_req__descriptor);
        int r;

        if (st_arguments_bool(arguments, "tcp-established") && st_arguments_bool(arguments, "tcp-close"))
                return st_error_set(err, EINVAL, "--tcp-established and --tcp-close contradict each other");

        message_set_string(&req->type, type->command.type);
        req->details = message_new(&daemon__details__descriptor);
        request_set_path(&req->path, arguments, "path");
        request_set_path(&req->pidfile, arguments, "pid-file");
        request_set_path(&req->log, arguments, "out");
        if (st_arguments_bool(arguments, "check"))
                req->has_check = req->check = 1;
        if (st_arguments_bool(arguments, "lazy"))
                req->has_lazy = req->lazy = 1;
        if (st_arguments_given(arguments, "files"))
                message_set_string(&req->files, st_arguments_string(arguments, "files"));
        request_fill_hooks(arguments, &req->n_hooks, &req->hooks);
        r = fill_attach(arguments, req, err);
        if (r < 0)
                return r;
        r = request_fill_criu(arguments, restore_flags, &req->criu, &req->n_off, &req->off, err);
        if (r < 0)
                return r;
        r = type->fill(arguments, req, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(req);
        return 0;
}

static void print_restore(const struct cli *cli, const Daemon__RestoreReq *req, const Daemon__RestoreResp *resp) {
        if (!cli->json) {
                output_messages(resp->messages, resp->n_messages);
                if (req->details->jid)
                        printf("restored job %s, process %u\n", req->details->jid, resp->pid);
                else
                        printf("restored %s %u\n", cli->type->type, resp->pid);
        } else {
                json_t *object = json_object();

                json_object_set_new(object, "type", output_text_json(cli->type->type));
                if (req->details->jid)
                        json_object_set_new(object, "jid", output_text_json(req->details->jid));
                json_object_set_new(object, "pid", json_integer(resp->pid));
                json_object_set_new(object, "messages", output_messages_json(resp->messages, resp->n_messages));
                output_json(object);
        }
        fflush(stdout); /* before what the restored process prints; a failure shows at the end */
}

struct local_restore {
        Daemon__RestoreReq *req;
        Daemon__RestoreResp *resp;
        struct engine_started restored;
};

static void local_restore_clear(struct local_restore *restore) {
        engine_started_clear(&restore->restored);
}

static int restore_here(struct st_operation *operation, void *userdata, struct st_error **err) {
        struct local_restore *restore = userdata;

        return engine_restore(operation, restore->req, restore->resp, &restore->restored, err);
}

/* The output of a process on a terminal of its own goes to --out, where one was named. */
static int redirect_output(const Daemon__RestoreReq *req, int pty, struct st_error **err) {
        if (pty < 0 || isempty(req->log))
                return 0;
        (void)output_flush();
        _cleanup_close_ int fd = open(req->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
        if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
                return st_error_errno(err, errno, "cannot open %s", req->log);
        return 0;
}

static int restore_locally(struct cli *cli, Daemon__RestoreReq *req, const char *outcome, struct st_error **err) {
        _cleanup_(message_freep) Daemon__RestoreResp *resp = message_new(&daemon__restore_resp__descriptor);
        _cleanup_(local_restore_clear) struct local_restore restore = { req, resp, ENGINE_STARTED_NULL };
        struct local_work work = { restore_here, &restore, outcome, true };
        int r;

        if (st_arguments_bool(cli->arguments, "attach") || st_arguments_bool(cli->arguments, "attachable"))
                output_talk("--attach is not needed with --no-server: the process is a child of this command");
        r = local_operate(cli, &work, err);
        int pty = restore.restored.stdio.terminal;
        if (r < 0)
                return r;
        if (req->check)
                return preflight_print(resp, cli->json, err);
        lazy_holder_start(&restore.restored);
        print_restore(cli, req, resp);
        r = redirect_output(req, pty, err);
        if (r < 0)
                return r;
        return restore.restored.child > 0 ? wait_for_process(restore.restored.child, pty, err) : EXIT_OK;
}

static int restore_by_daemon(struct cli *cli, const Daemon__RestoreReq *req, const char *outcome,
                             struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__Event *event = NULL;
        int r;

        r = daemon_operate(cli, "/stasis.v1.Stasis/Restore", &req->base, outcome, &event, err);
        if (r < 0)
                return r;
        if (event->kind_case != STASIS__V1__EVENT__KIND_RESTORE)
                return st_error_set(err, EPROTO, "the daemon answered something else than a restore");
        if (req->check)
                return preflight_print(event->restore, cli->json, err);
        if (!st_arguments_bool(cli->arguments, "attach")) {
                print_restore(cli, req, event->restore);
                return EXIT_OK;
        }
        output_messages(event->restore->messages, event->restore->n_messages);
        const struct attaching attaching = { .pid = event->restore->pid, .jid = req->details->jid, .wait = true };
        return attach(cli, &attaching, err);
}

static int run_restore(struct cli *cli, struct st_error **err) {
        static const char outcome[] = "nothing was restored";
        _cleanup_(message_freep) Daemon__RestoreReq *req = NULL;
        int r;

        r = restore_request((const struct st_restore_command *)cli->type, cli->arguments, &req, err);
        if (r < 0)
                return r;
        cli_begin_work(cli);
        if (st_arguments_bool(cli->arguments, "no-server"))
                return restore_locally(cli, req, outcome, err);
        return restore_by_daemon(cli, req, outcome, err);
}

const struct command command_restore = {
        .path = "restore",
        .summary = "Lets a checkpoint run again",
        .examples = "restore process --path /var/backups/web.stasis\n"
                    "restore process --path /var/backups/web.stasis --check\n"
                    "restore process --path /var/backups/web.stasis --lazy\n"
                    "restore job calm-otter --attach",
        .options = (const struct st_option *const[]){ restore_options, attach_options, NULL },
        .config = true,
        .types = (const struct st_command *const[]){ &restore_process.command, &restore_job.command, NULL },
        .type_feature = ST_FEATURE_restore_command,
        .run = run_restore,
};
