/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis job list` (`ps`, `jobs`) and `stasis job inspect`. */

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/table.h"
#include "base/text.h"
#include "cli/checkpoints.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/job.h"
#include "cli/output.h"
#include "cli/policy.h"
#include "db/job_state.h"

static const struct st_option list_options[] = {
        { .flag = "all",
          .letter = 'a',
          .type = ST_OPTION_BOOL,
          .help = "also jobs of other machines that this daemon knows of" },
        ST_OPTION_END,
};

static void add_job(struct table *table, const Stasis__V1__JobInfo *job) {
        const Stasis__V1__JobSpec *spec = job->spec;
        char pid[sizeof("4294967295")];
        _cleanup_free_ char *time = job->latest ? job_time_text(job->latest->time) : NULL;
        _cleanup_free_ char *size = job->latest ? text_from_size(job->latest->size) : NULL;

        (void)snprintf(pid, sizeof(pid), "%u", job->pid);
        table_add(table, (const char *const[]){ spec->jid, spec->type, job->pid > 0 ? pid : "-",
                                                isempty(job->status) ? job_state_name(job->state) : job->status,
                                                time ?: "-", size ?: "-", isempty(spec->log) ? "-" : spec->log });
}

static int run_list(struct cli *cli, struct st_error **err) {
        static const char *const titles[] = { "JOB", "TYPE", "PID", "STATUS", "CHECKPOINT", "SIZE", "LOG", NULL };
        _cleanup_(message_freep) Stasis__V1__ListJobsResp *resp = NULL;
        _cleanup_(table_freep) struct table *table = NULL;
        struct output_list list = { 0 };
        int r;

        cli_begin_work(cli);
        r = job_ask(cli, NULL, false, &resp, err);
        if (r < 0)
                return r;
        if (!cli->json)
                table = table_new(titles);
        for (size_t i = 0; i < resp->n_jobs; i++) {
                if (!resp->jobs[i]->spec)
                        continue;
                if (cli->json)
                        output_list_add(&list, job_json(resp->jobs[i]));
                else
                        add_job(table, resp->jobs[i]);
        }
        if (cli->json)
                output_list_end(&list);
        else if (resp->n_jobs == 0)
                puts("No jobs found");
        else
                r = table_print(table, false, err);
        return r < 0 ? r : EXIT_OK;
}

static void print_line(const char *label, const char *text) {
        if (isempty(text))
                return;
        _cleanup_free_ char *safe = text_sanitise(text, strlen(text));
        printf("%-13s %s\n", label, safe);
}

static void print_process(const Daemon__Process *process) {
        _cleanup_strv_ struct strv words = { 0 };

        if (!isempty(process->path))
                strv_add(&words, process->path);
        for (size_t i = 0; i < process->n_args; i++)
                strv_add(&words, process->args[i]);
        _cleanup_free_ char *command = strv_join(&words, " ");
        print_line("command", command);
        print_line("directory", process->workingdir);
}

static void print_job(const Stasis__V1__JobInfo *job) {
        const Stasis__V1__JobSpec *spec = job->spec;
        _cleanup_free_ char *state = job_state_text(job->state, job->exitstatus);
        _cleanup_free_ char *since = job_time_text(job->since), *created = job_time_text(spec->created);
        _cleanup_free_ char *text = xasprintf("%s%s%s", state, since ? " since " : "", since ?: "");
        _cleanup_free_ char *pid = job->pid > 0 ? xasprintf("%u", job->pid) : NULL;
        _cleanup_free_ char *user = xasprintf("%u", spec->uid), *policy = policy_to_text(spec->policy);
        _cleanup_free_ char *next = job_time_text(job->next);
        _cleanup_free_ char *restarts = job->restarts > 0 ? xasprintf("%u", job->restarts) : NULL;

        print_line("job", spec->jid);
        print_line("type", spec->type);
        print_line("state", text);
        print_line("status", job->status);
        print_line("PID", pid);
        if (spec->details && spec->details->process)
                print_process(spec->details->process);
        print_line("log", spec->log);
        print_line("attach", spec->managed       ? "no: it was running before it became a job"
                             : !spec->attachable ? "no"
                             : spec->terminal    ? "yes, on a terminal"
                                                 : "yes, by pipes");
        print_line("policy", policy);
        print_line("next", next);
        print_line("restarts", restarts);
        print_line("created", created);
        print_line("user", user);
        print_line("problem", job->problem);
}

static int print_history(const Stasis__V1__JobInfo *job, struct st_error **err) {
        static const char *const titles[] = { "TIME", "STATE", "PID", "REASON", NULL };
        _cleanup_(table_freep) struct table *table = NULL;

        if (job->n_history == 0)
                return 0;
        puts("\nHistory");
        table = table_new(titles);
        for (size_t i = 0; i < job->n_history; i++) {
                const Stasis__V1__JobEvent *event = job->history[i];
                _cleanup_free_ char *time = job_time_text(event->time);
                _cleanup_free_ char *state = job_state_text(event->state, event->exitstatus);
                _cleanup_free_ char *pid = event->pid > 0 ? xasprintf("%u", event->pid) : NULL;

                table_add(table, (const char *const[]){ time, state, pid, event->reason });
        }
        return table_print(table, false, err);
}

static int run_inspect(struct cli *cli, struct st_error **err) {
        const char *jid = st_arguments_words(cli->arguments)[0];
        _cleanup_(message_freep) Stasis__V1__ListJobsResp *resp = NULL;
        _cleanup_(message_freep) Stasis__V1__ListCheckpointsResp *checkpoints = NULL;
        int r;

        cli_begin_work(cli);
        r = job_ask_one(cli, jid, true, &resp, err);
        if (r >= 0)
                r = checkpoint_ask(cli, jid, NULL, &checkpoints, err);
        if (r < 0)
                return r;
        if (cli->json) {
                json_t *object = job_json(resp->jobs[0]), *list = json_array();

                for (size_t i = 0; i < checkpoints->n_checkpoints; i++)
                        json_array_append_new(list, checkpoint_json(checkpoints->checkpoints[i]));
                json_object_set_new(object, "checkpoints", list);
                output_json(object);
                return EXIT_OK;
        }
        print_job(resp->jobs[0]);
        r = print_history(resp->jobs[0], err);
        if (r >= 0 && checkpoints->n_checkpoints > 0) {
                puts("\nCheckpoints");
                r = checkpoint_print(checkpoints->checkpoints, checkpoints->n_checkpoints, err);
        }
        return r < 0 ? r : EXIT_OK;
}

const struct command command_job_list = {
        .path = "job list",
        .alias = "ps|jobs",
        .summary = "Lists all jobs, also those that have ended",
        .examples = "ps\njob list --json",
        .options = (const struct st_option *const[]){ list_options, NULL },
        .config = true,
        .run = run_list,
};

const struct command command_job_inspect = {
        .path = "job inspect",
        .words = "JID",
        .min_words = 1,
        .max_words = 1,
        .summary = "Shows all that is known of a job: its command, its history, its checkpoints",
        .examples = "job inspect calm-otter\njob inspect calm-otter --json",
        .config = true,
        .run = run_inspect,
};
