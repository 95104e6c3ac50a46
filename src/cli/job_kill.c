/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis job kill` and `stasis job delete`. */

#include "cli/job_kill.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/job.h"
#include "cli/operation.h"
#include "cli/output.h"
#include "db/job_state.h"

#define ALL(what) \
        { .flag = "all", .letter = 'a', .type = ST_OPTION_BOOL, .help = what }
#define YES \
        { .flag = "yes", .letter = 'y', .type = ST_OPTION_BOOL, .help = "do not ask before --all is done" }

static const struct st_option kill_options[] = {
        ALL("end all jobs that run; on a terminal you are asked first"),
        { .flag = "signal",
          .letter = 's',
          .type = ST_OPTION_STRING,
          .value_name = "SIGNAL",
          .help = "what to send, by name or number; not given: what ends a job of its type" },
        YES,
        ST_OPTION_END,
};

static const struct st_option delete_options[] = {
        ALL("delete all jobs that have ended; on a terminal you are asked first"),
        YES,
        ST_OPTION_END,
};

/* "RTMIN+3": as kill(1) names them. */
static int real_time_signal(const char *name) {
        const char *up = text_after(name, "RTMIN"), *down = text_after(name, "RTMAX");
        const char *offset = up ?: down;
        int64_t n = 0;

        if (!offset ||
            (*offset && (*offset != (up ? '+' : '-') || text_to_int(offset + 1, 0, SIGRTMAX - SIGRTMIN, &n) < 0)))
                return -EINVAL;
        return up ? SIGRTMIN + (int)n : SIGRTMAX - (int)n;
}

int job_kill_signal(const char *text) {
        _cleanup_free_ char *name = xstrdup(text);
        int64_t number;

        if (text_to_int(text, 1, SIGRTMAX, &number) == 0)
                return (int)number;
        for (char *c = name; *c; c++)
                if (*c >= 'a' && *c <= 'z')
                        *c = (char)(*c - 'a' + 'A');
        const char *bare = text_after(name, "SIG") ?: name;
        for (int i = 1; i < SIGRTMIN; i++) {
                const char *known = sigabbrev_np(i);

                if (known && streq(known, bare))
                        return i;
        }
        return real_time_signal(bare);
}

/* The words are JIDs, or there is --all and none of them. */
static int check_words(const struct cli *cli, struct st_error **err) {
        const char *const *words = st_arguments_words(cli->arguments);
        bool all = st_arguments_bool(cli->arguments, "all");

        if (all && words[0])
                return st_error_set(err, EINVAL, "%s: --all goes without JIDs", cli->command->path);
        if (!all && !words[0]) {
                st_error_set(err, EINVAL, "%s: JID is missing", cli->command->path);
                st_error_hint(err, "'stasis ps' shows all jobs, --all means all of them");
                return -EINVAL;
        }
        return 0;
}

static void fill_jids(const struct cli *cli, size_t *n, char ***jids) {
        const char *const *words = st_arguments_words(cli->arguments);

        for (; *words; words++)
                message_append(n, jids, xstrdup(*words));
}

/** @return 1: go on; 0: the user does not want to */
static int confirm(struct cli *cli, const char *what, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__ListJobsResp *jobs = NULL;
        bool alive = streq(command_name(cli->command), "kill");
        char answer[8] = "";
        size_t n = 0;

        if (!st_arguments_bool(cli->arguments, "all") || st_arguments_bool(cli->arguments, "yes") ||
            !isatty(STDIN_FILENO))
                return 1;
        int r = job_ask(cli, NULL, false, &jobs, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < jobs->n_jobs; i++)
                n += job_state_is_alive(jobs->jobs[i]->state) == alive;
        if (n == 0)
                return 1; /* the daemon says what it says of nothing */
        fprintf(stderr, "%s %zu job%s? [y/N] ", what, n, n == 1 ? "" : "s");
        fflush(stderr);
        if (!fgets(answer, sizeof(answer), stdin))
                answer[0] = 0;
        return answer[0] == 'y' || answer[0] == 'Y';
}

static void print(const struct cli *cli, char *const *messages, size_t n) {
        if (cli->json) {
                output_json(json_pack("{s:o}", "messages", output_messages_json(messages, n)));
                return;
        }
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *safe = text_sanitise(messages[i], strlen(messages[i]));
                puts(safe);
        }
}

static int run_kill(struct cli *cli, struct st_error **err) {
        const char *name = st_arguments_string(cli->arguments, "signal");
        _cleanup_(message_freep) Daemon__KillReq *req = message_new(&daemon__kill_req__descriptor);
        _cleanup_(message_freep) Daemon__KillResp *resp = NULL;
        int r;

        r = check_words(cli, err);
        if (r < 0)
                return r;
        if (name) {
                req->has_signal = 1;
                req->signal = job_kill_signal(name);
                if (req->signal < 0) {
                        st_error_set(err, EINVAL, "--signal: '%s' is no signal", name);
                        st_error_hint(err, "signals have names and numbers: TERM, SIGTERM, 15");
                        return -EINVAL;
                }
        }
        fill_jids(cli, &req->n_jids, &req->jids);
        cli_begin_work(cli);
        r = confirm(cli, "Kill", err);
        if (r <= 0)
                return r < 0 ? r : EXIT_FAILED;
        r = daemon_call(cli, "/daemon.Daemon/Kill", &req->base, &daemon__kill_resp__descriptor, &resp, err);
        if (r < 0)
                return r;
        print(cli, resp->messages, resp->n_messages);
        return EXIT_OK;
}

static int run_delete(struct cli *cli, struct st_error **err) {
        _cleanup_(message_freep) Daemon__DeleteReq *req = message_new(&daemon__delete_req__descriptor);
        _cleanup_(message_freep) Daemon__DeleteResp *resp = NULL;
        int r;

        r = check_words(cli, err);
        if (r < 0)
                return r;
        fill_jids(cli, &req->n_jids, &req->jids);
        cli_begin_work(cli);
        r = confirm(cli, "Delete", err);
        if (r <= 0)
                return r < 0 ? r : EXIT_FAILED;
        r = daemon_call(cli, "/daemon.Daemon/Delete", &req->base, &daemon__delete_resp__descriptor, &resp, err);
        if (r < 0)
                return r;
        print(cli, resp->messages, resp->n_messages);
        return EXIT_OK;
}

const struct command command_job_kill = {
        .path = "job kill",
        .alias = "kill",
        .words = "JID…",
        .max_words = SIZE_MAX,
        .summary = "Ends jobs, or sends them another signal",
        .examples = "job kill calm-otter\nkill -s TERM calm-otter\nkill --all --yes",
        .options = (const struct st_option *const[]){ kill_options, NULL },
        .config = true,
        .run = run_kill,
};

const struct command command_job_delete = {
        .path = "job delete",
        .alias = "delete",
        .words = "JID…",
        .max_words = SIZE_MAX,
        .summary = "Forgets jobs that have ended; the files of their checkpoints stay",
        .examples = "job delete calm-otter\ndelete --all",
        .options = (const struct st_option *const[]){ delete_options, NULL },
        .config = true,
        .run = run_delete,
};
