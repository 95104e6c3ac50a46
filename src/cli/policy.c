/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/policy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/job.h"
#include "cli/operation.h"
#include "cli/output.h"

const struct st_option policy_options[] = {
        { .flag = "every",
          .type = ST_OPTION_STRING,
          .value_name = "TIME",
          .help = "take a checkpoint each time so much has passed (30s, 10m, 1h30m); 0: none" },
        { .flag = "keep",
          .type = ST_OPTION_INT,
          .value_name = "N",
          .help = "keep the newest N of these checkpoints and remove those before; 0: keep all" },
        { .flag = "restart",
          .type = ST_OPTION_STRING,
          .value_name = "HOW",
          .help = "'checkpoint': restore the job from its newest good checkpoint when it dies by a signal or with the "
                  "machine, its files rolled back; 'checkpoint:N': so at most N times; 'no': never" },
        ST_OPTION_END,
};

static int parse_restart(const char *text, Daemon__JobPolicy *policy, struct st_error **err) {
        const char *behind = text_after(text, "checkpoint");
        uint64_t most = 0;

        policy->has_restart = policy->has_restartmax = 1;
        policy->restart = behind != NULL;
        if (streq(text, "no") || (behind && *behind == '\0'))
                return 0;
        if (!behind || *behind != ':' || text_to_uint(behind + 1, UINT32_MAX, &most) < 0 || most == 0)
                return st_error_set(err, EINVAL, "--restart: '%s' is not one of checkpoint, checkpoint:N, no", text);
        policy->restartmax = (uint32_t)most;
        return 0;
}

static int parse(const struct st_arguments *arguments, Daemon__JobPolicy *policy, struct st_error **err) {
        const char *every = st_arguments_string(arguments, "every"),
                   *restart = st_arguments_string(arguments, "restart");
        int64_t keep = st_arguments_int(arguments, "keep");

        if (every) {
                policy->has_every = 1;
                if (text_to_duration(every, &policy->every) < 0) {
                        st_error_set(err, EINVAL, "--every: '%s' is not a time", every);
                        st_error_hint(err, "write it as 30s, 10m, 1h30m");
                        return -EINVAL;
                }
        }
        if (st_arguments_given(arguments, "keep")) {
                if (keep < 0 || keep > UINT32_MAX)
                        return st_error_set(err, EINVAL, "--keep must be 0 or more");
                policy->has_keep = 1;
                policy->keep = (uint32_t)keep;
        }
        return restart ? parse_restart(restart, policy, err) : 0;
}

int policy_from_arguments(const struct st_arguments *arguments, Daemon__JobPolicy **ret, struct st_error **err) {
        _cleanup_(message_freep) Daemon__JobPolicy *policy = message_new(&daemon__job_policy__descriptor);
        int r = parse(arguments, policy, err);

        *ret = NULL;
        if (r >= 0 && (policy->has_every || policy->has_keep || policy->has_restart))
                *ret = TAKE_PTR(policy);
        return r;
}

/* "1h30m"; malloc'ed */
static char *duration_text(uint64_t ms) {
        static const struct {
                const char *name;
                uint64_t ms;
        } units[] = { { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 } };
        char *text = xstrdup("");

        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (ms >= units[i].ms) {
                        char *longer = xasprintf("%s%" PRIu64 "%s", text, ms / units[i].ms, units[i].name);

                        free(text);
                        text = longer;
                        ms %= units[i].ms;
                }
        return text;
}

char *policy_to_text(const Daemon__JobPolicy *policy) {
        _cleanup_strv_ struct strv parts = { 0 };

        if (!policy)
                return NULL;
        if (policy->every > 0) {
                _cleanup_free_ char *every = duration_text(policy->every);

                strv_addf(&parts, "a checkpoint every %s", every);
                if (policy->keep > 0)
                        strv_addf(&parts, "of which %u are kept", policy->keep);
        }
        if (policy->restart && policy->restartmax > 0)
                strv_addf(&parts, "restored when it dies, at most %u times", policy->restartmax);
        else if (policy->restart)
                strv_add(&parts, "restored when it dies");
        return parts.n > 0 ? strv_join(&parts, ", ") : NULL;
}

json_t *policy_to_json(const Daemon__JobPolicy *policy) {
        static const Daemon__JobPolicy none = DAEMON__JOB_POLICY__INIT;

        policy = policy ?: &none;
        return json_pack("{s:I, s:I, s:b, s:I}", "every_ms", (json_int_t)policy->every, "keep",
                         (json_int_t)policy->keep, "restart", policy->restart != 0, "restart_max",
                         (json_int_t)policy->restartmax);
}

static int run_schedule(struct cli *cli, struct st_error **err) {
        const char *const *words = st_arguments_words(cli->arguments);
        _cleanup_(message_freep) Daemon__JobPolicy *policy = NULL;
        _cleanup_(message_freep) Stasis__V1__ListJobsResp *jobs = NULL;
        _cleanup_(message_freep) Daemon__Empty *empty = NULL;
        Stasis__V1__ScheduleReq req = STASIS__V1__SCHEDULE_REQ__INIT;
        int r;

        r = policy_from_arguments(cli->arguments, &policy, err);
        if (r < 0)
                return r;
        cli_begin_work(cli);
        req.jid = (char *)words[0];
        req.policy = policy;
        if (policy)
                r = daemon_call(cli, "/stasis.v1.Stasis/Schedule", &req.base, &daemon__empty__descriptor, &empty, err);
        if (r >= 0)
                r = job_ask_one(cli, words[0], false, &jobs, err);
        if (r < 0)
                return r;
        if (cli->json) {
                json_t *object = policy_to_json(jobs->jobs[0]->spec->policy);

                json_object_set_new(object, "jid", json_string(words[0]));
                output_json(object);
                return EXIT_OK;
        }
        _cleanup_free_ char *text = policy_to_text(jobs->jobs[0]->spec->policy);
        printf("job %s: %s\n", words[0], text ?: "nothing is done for it by itself");
        return EXIT_OK;
}

const struct command command_job_schedule = {
        .path = "job schedule",
        .summary = "Sets, or shows, which checkpoints are taken of a job by themselves, and whether it is restored",
        .words = "JID",
        .min_words = 1,
        .max_words = 1,
        .examples = "job schedule train --every 10m --keep 5 --restart=checkpoint",
        .options = (const struct st_option *const[]){ policy_options, NULL },
        .config = true,
        .run = run_schedule,
};
