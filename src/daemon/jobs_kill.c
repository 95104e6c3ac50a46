/* SPDX-License-Identifier: Apache-2.0 */

/* Signals to jobs. */

#include <signal.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "daemon/jobs_private.h"
#include "process/proc.h"

/* What was killed is ended, as far as the next command sees, or it does not die so soon. */
#define KILL_WAIT_MS 5000

struct killing {
        struct jobs *jobs;
        int sig;
        Daemon__KillResp *resp;
        struct st_error *error; /* of the first that failed */
        size_t asking;          /* plugins for their signal */
        struct strv ending;     /* jobs that are waited for */
        struct strv asked;      /* those of them that were asked to end, and may have chosen not to */
        void (*done)(Daemon__KillResp *resp, struct st_error *error, void *userdata);
        void *userdata;
};

/* One job whose plugin is asked. */
struct question {
        struct killing *killing;
        char *jid;
};

static int collect(const struct db_job *job, void *userdata) {
        strv_add(userdata, job->spec->jid);
        return 0;
}

int jobs_choose(struct jobs *jobs, char *const *jids, size_t n_jids, bool alive, struct strv *ret,
                struct st_error **err) {
        if (n_jids == 0)
                return db_job_each(jobs->db, alive, collect, ret, err);
        for (size_t i = 0; i < n_jids; i++)
                strv_add(ret, jids[i]);
        return 0;
}

/** @return 1 sent, 0 there is nobody any more, -errno with err */
static int send_signal(const struct db_job *job, int sig, struct st_error **err) {
        _cleanup_close_ int pidfd = job->pid > 0 ? pidfd_open(job->pid, 0) : -EBADF;

        if (pidfd < 0 || !proc_is_alive(job->pid, job->start_time))
                return 0;
        if (pidfd_send_signal(pidfd, sig, NULL, 0) >= 0)
                return 1;
        return errno == ESRCH ? 0
                              : st_error_errno(err, errno, "cannot send signal %d to job %s (process %d)", sig,
                                               job->spec->jid, job->pid);
}

static char *say(const struct db_job *job, int sig) {
        const char *name = sigabbrev_np(sig);

        if (sig == SIGKILL)
                return xasprintf("killed job %s (process %d)", job->spec->jid, job->pid);
        return name ? xasprintf("sent SIG%s to job %s (process %d)", name, job->spec->jid, job->pid)
                    : xasprintf("sent signal %d to job %s (process %d)", sig, job->spec->jid, job->pid);
}

static void mark_killed(struct jobs *jobs, const struct db_job *job, int sig) {
        const struct db_job_change change = { .state = job->state, .killed = sig };

        (void)jobs_change(jobs, job->spec->jid, &change);
}

/** @return 1 sent, 0 there is nobody any more, -errno with err */
static int end_or_signal(struct jobs *jobs, const struct db_job *job, int sig, struct st_error **err) {
        size_t killed = sig == SIGKILL ? jobs_kill_tree(jobs, job) : 0;
        int r = send_signal(job, sig, err);

        return r == 0 && killed > 0 ? 1 : r;
}

/** Of a job that has ended: what it has left, and what its policy still means to do. @return what there is to say */
static char *end_remains(struct jobs *jobs, const struct db_job *job, int sig) {
        size_t killed = sig == SIGKILL && !job_state_is_alive(job->state) ? jobs_kill_tree(jobs, job) : 0;

        if (sig == SIGKILL && job->state == STASIS__V1__JOB_STATE__EXITED && WIFSIGNALED(job->exit_status))
                mark_killed(jobs, job, WTERMSIG(job->exit_status));
        else if (sig == SIGKILL && job->state == STASIS__V1__JOB_STATE__LOST)
                mark_killed(jobs, job, sig);
        return killed == 0 ? xasprintf("nothing to kill: job %s is %s", job->spec->jid, job_state_name(job->state))
                           : xasprintf("killed what job %s had left: %zu process%s", job->spec->jid, killed,
                                       killed == 1 ? "" : "es");
}

static int kill_one(struct jobs *jobs, const char *jid, int sig, Daemon__KillResp *resp, struct st_error **err) {
        struct db_job job;
        int r = jobs_get(jobs, jid, &job, err);

        if (r < 0)
                return r;
        if (job.state == STASIS__V1__JOB_STATE__RUNNING) {
                /* First: a policy must not take its end for an accident. */
                mark_killed(jobs, &job, sig);
                r = end_or_signal(jobs, &job, sig, err);
        }
        if (r >= 0)
                message_append(&resp->n_messages, &resp->messages,
                               r > 0 ? say(&job, sig) : end_remains(jobs, &job, sig));
        db_job_clear(&job);
        return r;
}

static void finish(void *userdata) {
        struct killing *killing = userdata;
        _cleanup_error_ struct st_error *error = killing->error;

        if (error)
                message_freep(&killing->resp);
        killing->done(error ? NULL : killing->resp, error, killing->userdata);
        strv_clear(&killing->ending);
        strv_clear(&killing->asked);
        free(killing);
}

/** The daemon itself ends. */
static void forget(void *userdata) {
        struct killing *killing = userdata;

        if (!killing->error)
                st_error_set(&killing->error, ECANCELED, "the daemon ends");
        finish(killing);
}

static void send_to(struct killing *killing, const char *jid, int sig) {
        struct st_error *error = NULL;

        if (kill_one(killing->jobs, jid, sig, killing->resp, &error) >= 0)
                strv_add(&killing->ending, jid);
        else if (!killing->error)
                killing->error = error;
        else
                st_error_free(error);
}

/** Those that live on although they were asked to end. */
static void on_patience(void *userdata) {
        struct killing *killing = userdata;

        strv_clear(&killing->ending);
        for (size_t i = 0; i < killing->asked.n; i++) {
                const char *jid = killing->asked.items[i];
                struct db_job job;
                bool runs;

                if (jobs_get(killing->jobs, jid, &job, NULL) < 0)
                        continue;
                runs = job.state == STASIS__V1__JOB_STATE__RUNNING;
                db_job_clear(&job);
                if (!runs)
                        continue;
                message_append(&killing->resp->n_messages, &killing->resp->messages,
                               xasprintf("job %s did not end within %d s", jid, KILL_WAIT_MS / 1000));
                send_to(killing, jid, SIGKILL);
        }
        if (killing->ending.n > 0)
                jobs_wait(killing->jobs, killing->ending.items, killing->ending.n, KILL_WAIT_MS, finish, forget,
                          killing);
        else
                finish(killing);
}

/** The last of them makes the end. */
static void answered(struct killing *killing) {
        if (--killing->asking > 0)
                return;
        if (killing->error || (killing->sig != 0 && killing->sig != SIGKILL))
                finish(killing);
        else
                jobs_wait(killing->jobs, killing->ending.items, killing->ending.n, KILL_WAIT_MS, on_patience, forget,
                          killing);
}

static void forget_question(void *userdata) {
        struct question *question = userdata;
        struct killing *killing = question->killing;

        free(question->jid);
        free(question);
        if (--killing->asking == 0)
                forget(killing);
}

static void on_answer(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile, struct st_error *error,
                      void *userdata) {
        struct question *question = userdata;
        struct killing *killing = question->killing;
        _cleanup_(message_freep) Stasis__Worker__Signal *answer =
                result ? stasis__worker__signal__unpack(NULL, result->response.len, result->response.data) : NULL;
        int sig = answer && answer->has_number ? answer->number : SIGKILL;

        (void)profile;
        if (error)
                message_append(&killing->resp->n_messages, &killing->resp->messages,
                               xasprintf("job %s gets a SIGKILL: %s", question->jid, st_error_message(error)));
        send_to(killing, question->jid, sig);
        if (sig != SIGKILL)
                strv_add(&killing->asked, question->jid);
        free(question->jid);
        free(question);
        answered(killing);
}

/** What ends a process is known; of all else its plugin knows it. */
static void end_one(struct killing *killing, const char *jid, const struct job_caller *caller) {
        struct question *question;
        struct db_job job;

        if (jobs_get(killing->jobs, jid, &job, NULL) < 0 || job.state != STASIS__V1__JOB_STATE__RUNNING ||
            streq(job.spec->type, "process"))
                send_to(killing, jid, SIGKILL);
        else {
                question = NEW(struct question);
                question->killing = killing;
                question->jid = xstrdup(jid);
                killing->asking++;
                jobs_ask_plugin(killing->jobs, STASIS__WORKER__OPERATION_KIND__KILL_SIGNAL, "kill", NULL, job.spec,
                                caller, on_answer, forget_question, question);
        }
        db_job_clear(&job);
}

/** A name that is wrong must not stop half-way. */
static int choose_existing(struct jobs *jobs, char *const *jids, size_t n_jids, struct strv *ret,
                           struct st_error **err) {
        int r = jobs_choose(jobs, jids, n_jids, true, ret, err);

        for (size_t i = 0; i < ret->n && r >= 0; i++) {
                struct db_job job;

                r = jobs_get(jobs, ret->items[i], &job, err);
                if (r >= 0)
                        db_job_clear(&job);
        }
        return r;
}

void jobs_kill(struct jobs *jobs, char *const *jids, size_t n_jids, int sig, struct job_caller *caller,
               void (*done)(Daemon__KillResp *resp, struct st_error *error, void *userdata), void *userdata) {
        const struct job_caller lent = *caller;
        _cleanup_free_ __attribute__((unused)) char *text = TAKE_PTR(caller->text);
        struct killing *killing = NEW(struct killing);
        _cleanup_strv_ struct strv chosen = { 0 };

        killing->jobs = jobs;
        killing->sig = sig;
        killing->resp = message_new(&daemon__kill_resp__descriptor);
        killing->done = done;
        killing->userdata = userdata;
        killing->asking = 1;
        if (sig < 0 || sig > SIGRTMAX)
                st_error_set(&killing->error, EINVAL, "there is no signal %d", sig);
        else if (choose_existing(jobs, jids, n_jids, &chosen, &killing->error) >= 0 && chosen.n == 0)
                message_append(&killing->resp->n_messages, &killing->resp->messages,
                               xstrdup("nothing to kill: no job runs"));
        for (size_t i = 0; i < chosen.n && !killing->error; i++)
                if (sig == 0)
                        end_one(killing, chosen.items[i], &lent);
                else
                        send_to(killing, chosen.items[i], sig);
        answered(killing);
}
