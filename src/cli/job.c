/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis job …`, and what its commands have in common. */

#include "cli/job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/spawn.h"
#include "base/text.h"
#include "cli/checkpoints.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/operation.h"
#include "cli/output.h"
#include "cli/policy.h"
#include "db/job_state.h"

int job_ask(struct cli *cli, const char *jid, bool history, Stasis__V1__ListJobsResp **ret, struct st_error **err) {
        Stasis__V1__ListJobsReq req = STASIS__V1__LIST_JOBS_REQ__INIT;

        if (jid) {
                req.n_jids = 1;
                req.jids = (char **)&jid;
        }
        if (history)
                req.has_history = req.history = 1;
        return daemon_call(cli, "/stasis.v1.Stasis/ListJobs", &req.base, &stasis__v1__list_jobs_resp__descriptor, ret,
                           err);
}

static int no_such_job(const char *jid, struct st_error **err) {
        if (err)
                *err = st_error_free(*err);
        st_error_set(err, ENOENT, "there is no job %s", jid);
        st_error_hint(err, "'stasis ps' shows all jobs");
        return -ENOENT;
}

int job_ask_one(struct cli *cli, const char *jid, bool history, Stasis__V1__ListJobsResp **ret, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__ListJobsResp *resp = NULL;
        int r = job_ask(cli, jid, history, &resp, err);

        if (r == -ENOENT || (r >= 0 && (resp->n_jobs == 0 || !resp->jobs[0]->spec)))
                return no_such_job(jid, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(resp);
        return 0;
}

int job_resolve(struct cli *cli, const char *word, char **ret_jid, uint32_t *ret_pid, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__ListJobsResp *resp = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        pid_t pid = 0;
        int r = job_ask_one(cli, word, false, &resp, &error);

        if ((r == -ENOENT || r == -EINVAL) && text_to_pid(word, &pid) == 0) {
                *ret_jid = NULL;
                *ret_pid = (uint32_t)pid;
                return 0;
        }
        if (r < 0)
                return st_error_move(err, TAKE_PTR(error));

        const Stasis__V1__JobInfo *job = resp->jobs[0];
        if (job->pid == 0 || (!job_state_is_alive(job->state) && job->state != STASIS__V1__JOB_STATE__EXITED)) {
                st_error_set(err, ENOTCONN, "job %s is not running (%s)", word, job_state_name(job->state));
                st_error_hint(err, "'stasis restore job %s --attach' lets it run again", word);
                return -ENOTCONN;
        }
        *ret_jid = xstrdup(word);
        *ret_pid = job->pid;
        return 0;
}

char *job_state_text(Stasis__V1__JobState state, int status) {
        return state == STASIS__V1__JOB_STATE__EXITED ? spawn_describe_status(status) : xstrdup(job_state_name(state));
}

char *job_time_text(int64_t milliseconds) {
        char text[sizeof("2026-01-31 12:00:00") + 8];
        time_t when = (time_t)(milliseconds / 1000);
        struct tm tm;

        if (milliseconds == 0)
                return NULL;
        if (!localtime_r(&when, &tm) || strftime(text, sizeof(text), "%F %T", &tm) == 0)
                return xasprintf("%" PRId64, milliseconds / 1000);
        return xstrdup(text);
}

static void set_text(json_t *object, const char *name, const char *text) {
        json_object_set_new(object, name, isempty(text) ? json_null() : output_text_json(text));
}

static json_t *time_json(int64_t milliseconds) {
        return milliseconds > 0 ? json_integer(milliseconds) : json_null();
}

static json_t *history_json(const Stasis__V1__JobInfo *job) {
        json_t *list = json_array();

        for (size_t i = 0; i < job->n_history; i++) {
                const Stasis__V1__JobEvent *event = job->history[i];
                json_t *object = json_object();

                json_object_set_new(object, "time", time_json(event->time));
                set_text(object, "state", job_state_name(event->state));
                if (event->pid > 0)
                        json_object_set_new(object, "pid", json_integer(event->pid));
                if (event->state == STASIS__V1__JOB_STATE__EXITED)
                        json_object_set_new(object, "exit_code", json_integer(spawn_exit_code(event->exitstatus)));
                set_text(object, "reason", event->reason);
                json_array_append_new(list, object);
        }
        return list;
}

json_t *job_json(const Stasis__V1__JobInfo *job) {
        const Stasis__V1__JobSpec *spec = job->spec;
        json_t *object = json_object();
        bool exited = job->state == STASIS__V1__JOB_STATE__EXITED;

        set_text(object, "jid", spec->jid);
        set_text(object, "type", spec->type);
        json_object_set_new(object, "pid", job->pid > 0 ? json_integer(job->pid) : json_null());
        set_text(object, "status", job->status);
        set_text(object, "state", job_state_name(job->state));
        json_object_set_new(object, "exit_code", exited ? json_integer(spawn_exit_code(job->exitstatus)) : json_null());
        set_text(object, "log", spec->log);
        json_object_set_new(object, "since", time_json(job->since));
        json_object_set_new(object, "created", time_json(spec->created));
        json_object_set_new(object, "uid", json_integer(spec->uid));
        json_object_set_new(object, "attachable", json_boolean(spec->attachable));
        json_object_set_new(object, "terminal", json_boolean(spec->terminal));
        json_object_set_new(object, "managed", json_boolean(spec->managed));
        json_object_set_new(object, "restarts", json_integer(job->restarts));
        json_object_set_new(object, "policy", spec->policy ? policy_to_json(spec->policy) : json_null());
        json_object_set_new(object, "next_ms", job->next > 0 ? json_integer(job->next) : json_null());
        if (!isempty(job->problem))
                set_text(object, "problem", job->problem);
        json_object_set_new(object, "checkpoint", job->latest ? checkpoint_json(job->latest) : json_null());
        if (job->n_history > 0)
                json_object_set_new(object, "history", history_json(job));
        return object;
}

const struct command command_job = {
        .path = "job",
        .summary = "Shows jobs, attaches to them, ends them",
        .examples = "job list\njob attach calm-otter",
};
