/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `stasis completion SHELL` prints a script for a shell; the script asks `stasis __complete -- WORD…` for candidates,
 * which come from the tables of commands and options, plugins' too. So they always agree with what is installed.
 */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/options.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/completion_scripts.h"
#include "cli/job.h"
#include "cli/line.h"
#include "cli/operation.h"
#include "db/job_state.h"
#include "engine/settings.h"
#include "process/proc.h"

/* What the shell does beside the candidates, said by the last line of the answer. */
enum rest { REST_NOTHING, REST_FILES, REST_DIRECTORIES };

struct completion {
        const char *prefix; /* of the word that is being typed */
        const char *before; /* what stands before each candidate: "--compression=" */
};

static void offer(const struct completion *completion, const char *value, size_t n, const char *what) {
        if (strncmp(value, completion->prefix, strlen(completion->prefix)) != 0 || n < strlen(completion->prefix))
                return;
        printf("%s%.*s\t%s\n", completion->before, (int)n, value, what ?: "");
}

static void offer_flags(const struct completion *completion, const struct st_option *rows) {
        for (; rows && (rows->flag || rows->key); rows++)
                if (rows->flag) {
                        _cleanup_free_ char *flag = xasprintf("--%s", rows->flag);
                        offer(completion, flag, strlen(flag), rows->help);
                }
}

static enum rest offer_values(const struct completion *completion, const struct st_option *row) {
        const char *name = row->value_name ?: "";

        for (const char *at = row->choices; at && *at;) {
                size_t n = strcspn(at, "|");

                offer(completion, at, n, NULL);
                at += n + (at[n] == '|');
        }
        if (row->type == ST_OPTION_BOOL) {
                offer(completion, "true", 4, NULL);
                offer(completion, "false", 5, NULL);
        }
        if (streq(name, "DIR"))
                return REST_DIRECTORIES;
        return streq(name, "FILE") || streq(name, "PATH") ? REST_FILES : REST_NOTHING;
}

static void offer_type(const struct st_command *type, void *userdata) {
        offer(userdata, type->type, strlen(type->type), type->summary);
}

static void offer_helper(const struct st_helper *helper, void *userdata) {
        offer_type(&helper->command, userdata);
}

static void offer_aliases(const struct completion *completion) {
        for (size_t i = 0; commands[i]; i++) {
                const char *at = commands[i]->alias;

                for (char *alias; (alias = command_next_alias(&at)); free(alias))
                        offer(completion, alias, strlen(alias), commands[i]->summary);
        }
}

/** The next words of the commands below `parent`; NULL: of all. */
static void offer_commands(const struct completion *completion, const struct command *parent) {
        size_t skip = parent ? strlen(parent->path) + 1 : 0;
        const char *last = "";

        for (size_t i = 0; commands[i]; i++) {
                const struct command *command = commands[i];
                const char *word = command->path + skip;
                size_t n;

                if (command->hidden || !command_is_below(command, parent))
                        continue;
                n = strcspn(word, " ");
                if (strncmp(word, last, n) == 0 && strcspn(last, " ") == n)
                        continue;
                offer(completion, word, n, word[n] ? NULL : command->summary);
                last = word;
        }
        if (!parent) {
                offer_aliases(completion);
                command_each_helper(offer_helper, (void *)completion);
        }
}

/** PIDs with the names of their processes; kernel threads are nobody's target. */
static void offer_processes(const struct completion *completion) {
        _cleanup_closedir_ DIR *dir = opendir("/proc");
        const struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                pid_t pid;

                if (!isdigit((unsigned char)entry->d_name[0]) || text_to_pid(entry->d_name, &pid) < 0)
                        continue;
                _cleanup_free_ char *command = proc_command_line(pid);
                if (!isempty(command) && command[0] != '[')
                        offer(completion, entry->d_name, strlen(entry->d_name), command);
        }
}

/* Which jobs a command is for. */
static bool job_fits(const char *verb, const Stasis__V1__JobInfo *job) {
        static const char *const living[] = { "attach", "kill", "dump", "freeze", "unfreeze" };
        static const char *const halted[] = { "delete", "restore" };

        for (size_t i = 0; i < ELEMENTSOF(living); i++)
                if (streq(verb, living[i]))
                        return job_state_is_alive(job->state);
        for (size_t i = 0; i < ELEMENTSOF(halted); i++)
                if (streq(verb, halted[i]))
                        return !job_state_is_alive(job->state);
        return true;
}

/* The daemon that the line means, asked without patience. @return false: there is no answer */
static bool ask_daemon(const struct line *line, const char *method, const ProtobufCMessage *request,
                       const ProtobufCMessageDescriptor *response, void *ret) {
        struct cli cli = { .command = line->command, .type = line->type };
        bool answered = cli_load_arguments(line, &cli.arguments, NULL) >= 0 &&
                        daemon_call_quickly(&cli, method, request, response, ret, NULL) >= 0;

        arguments_free(cli.arguments);
        return answered;
}

static void offer_jobs(const struct completion *completion, const struct line *line) {
        Stasis__V1__ListJobsReq req = STASIS__V1__LIST_JOBS_REQ__INIT;
        _cleanup_(message_freep) Stasis__V1__ListJobsResp *resp = NULL;

        if (!ask_daemon(line, "/stasis.v1.Stasis/ListJobs", &req.base, &stasis__v1__list_jobs_resp__descriptor, &resp))
                return;
        for (size_t i = 0; i < resp->n_jobs; i++) {
                const Stasis__V1__JobInfo *job = resp->jobs[i];

                if (job->spec && job->spec->jid && job_fits(command_name(line->command), job))
                        offer(completion, job->spec->jid, strlen(job->spec->jid), job->status);
        }
}

static void offer_checkpoints(const struct completion *completion, const struct line *line) {
        Stasis__V1__ListCheckpointsReq req = STASIS__V1__LIST_CHECKPOINTS_REQ__INIT;
        _cleanup_(message_freep) Stasis__V1__ListCheckpointsResp *resp = NULL;

        if (!ask_daemon(line, "/stasis.v1.Stasis/ListCheckpoints", &req.base,
                        &stasis__v1__list_checkpoints_resp__descriptor, &resp))
                return;
        for (size_t i = 0; i < resp->n_checkpoints; i++) {
                const char *id = resp->checkpoints[i]->id, *jid = resp->checkpoints[i]->jid;

                if (id)
                        offer(completion, id, strlen(id), jid);
        }
}

static bool takes_checkpoint(const struct line *line, const char *words) {
        return !line->type && (text_after(words, "ID") || text_after(words, "PATH|ID"));
}

static enum rest offer_words(const struct completion *completion, const struct line *line) {
        const char *words = line->type ? line->type->words : line->command ? line->command->words : NULL;

        if (!line->command || (!line->command->run && !line->type)) {
                offer_commands(completion, line->command);
                return REST_NOTHING;
        }
        if (line->command->types && !line->type) {
                command_each_type(line->command, offer_type, (void *)completion);
                return REST_NOTHING;
        }
        if (words && text_after(words, "JID"))
                offer_jobs(completion, line);
        else if (words && takes_checkpoint(line, words))
                offer_checkpoints(completion, line);
        else if (words && text_after(words, "PID"))
                offer_processes(completion);
        else if (words && line->command->choices)
                return offer_values(completion,
                                    &(struct st_option){ .type = ST_OPTION_STRING, .choices = line->command->choices });
        return words && (strstr(words, "PATH") || strstr(words, "LOG") || strstr(words, "FILE")) ? REST_FILES
                                                                                                 : REST_NOTHING;
}

static void offer_all_flags(const struct completion *completion, const struct line *line) {
        _cleanup_(option_tables_clear) struct option_tables tables = { 0 };

        line_tables(line, &tables);
        for (size_t i = 0; i < tables.n; i++)
                offer_flags(completion, tables.tables[i]);
}

/** @param before the words before the one that is being typed, which is `word` */
static enum rest complete(const struct line *line, const char *before, const char *word) {
        const char *equals = word[0] == '-' ? strchr(word, '=') : NULL;
        const struct st_option *row = before && before[0] == '-' ? line_find_flag(line, before) : NULL;

        if (row && option_takes_next(row) && !strchr(before, '='))
                return offer_values(&(struct completion){ word, "" }, row);
        if (equals) {
                _cleanup_free_ char *flag = xstrndup(word, (size_t)(equals - word) + 1);

                row = line_find_flag(line, flag);
                return row ? offer_values(&(struct completion){ equals + 1, flag }, row) : REST_NOTHING;
        }
        if (word[0] == '-') {
                offer_all_flags(&(struct completion){ word, "" }, line);
                return REST_NOTHING;
        }
        return offer_words(&(struct completion){ word, "" }, line);
}

static int run_candidates(struct cli *cli, struct st_error **err) {
        static const char *const ends[] = { ":nothing", ":files", ":directories" };
        _cleanup_(line_clear) struct line line = { 0 };
        _cleanup_strv_ struct strv words = { 0 };
        _cleanup_error_ struct st_error *error = NULL;
        const char *const *given = st_arguments_words(cli->arguments);
        size_t n = 0;

        (void)err;
        while (given[n])
                n++;
        for (size_t i = 0; i + 1 < n; i++)
                strv_add(&words, given[i]);
        /* What is wrong so far is told when the command is run; here it only has no candidates. */
        static char *const nothing[] = { NULL };
        if (cli_find_command(words.items ? words.items : nothing, &line, &error) < 0)
                return EXIT_OK;
        cli_load_types(&line);
        puts(ends[complete(&line, n >= 2 ? given[n - 2] : NULL, n > 0 ? given[n - 1] : "")]);
        return EXIT_OK;
}

static int run_completion(struct cli *cli, struct st_error **err) {
        const char *shell = st_arguments_words(cli->arguments)[0];

        for (const struct completion_script *script = completion_scripts; script->shell; script++)
                if (streq(script->shell, shell)) {
                        fputs(script->text, stdout);
                        return EXIT_OK;
                }
        st_error_set(err, EINVAL, "completion: unknown shell '%s'", shell);
        st_error_hint(err, "the shells are bash, zsh and fish");
        return -EINVAL;
}

const struct command command_completion = {
        .path = "completion",
        .words = "SHELL",
        .choices = "bash|zsh|fish",
        .min_words = 1,
        .max_words = 1,
        .summary = "Prints a script that completes commands, flags and PIDs in bash, zsh or fish",
        .examples = "completion bash > /etc/bash_completion.d/stasis",
        .run = run_completion,
};

const struct command command_candidates = {
        .path = "__complete",
        .words = "WORD…",
        .max_words = SIZE_MAX,
        .summary = "Candidates for the last word, for the scripts of 'completion'",
        .examples = "__complete -- dump process --compression ''",
        .hidden = true,
        .run = run_candidates,
};
