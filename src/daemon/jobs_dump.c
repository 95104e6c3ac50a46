/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Dump, freeze and unfreeze of a job. A dump's checkpoint is on record before it begins, with the place where it will
 * be and whether it is to end the job: so a daemon that comes after a crash knows what to look for.
 */

#include <sys/stat.h>
#include <time.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "daemon/jobs_private.h"
#include "engine/checkpoint_chain.h"
#include "engine/settings.h"
#include "image/image.h"

#define NAMES_MAX 1000

/* A job that its dump has ended shall be ended as far as the next command sees. */
#define END_WAIT_MS 5000

struct dump {
        struct job_operation operation; /* first */
        Stasis__Worker__OperationKind kind;
        Daemon__DumpReq *req;
        Stasis__V1__CheckpointInfo *info; /* once it is begun */
        uint64_t changes;                 /* jobs->changes by then */
        bool taken;                       /* something had the checkpoint's name already */

        /* The end, while the job's own is waited for. */
        Stasis__Worker__Result *result;
        Stasis__V1__Profile *profile;
};

static void dump_free(struct dump *dump) {
        job_operation_clear(&dump->operation);
        message_freep(&dump->req);
        message_freep(&dump->info);
        message_freep(&dump->result);
        message_freep(&dump->profile);
        free(dump);
}

/** Puts the job's own type and details in the place of its name. */
static void resolve(Daemon__DumpReq *req, const struct db_job *job) {
        Daemon__Details *details = job->spec->details ? message_copy(&job->spec->details->base)
                                                      : message_new(&daemon__details__descriptor);

        if (streq(job->spec->type, "process")) {
                Daemon__Process *process = message_new(&daemon__process__descriptor);

                process->has_pid = 1;
                process->pid = (uint32_t)job->pid;
                message_freep(&details->process);
                details->process = process;
        }
        message_set_string(&details->jid, NULL);
        message_freep(&req->details);
        req->details = details;
        message_set_string(&req->type, job->spec->type);
}

/** Where the checkpoint will be. The name is made, and free, when none is given. malloc'ed */
static char *choose_path(struct jobs *jobs, Daemon__DumpReq *req, const char *jid, const char **ret_format) {
        enum image_format format;
        int64_t streams = req->has_streams && req->streams != 0 ? req->streams
                                                                : st_arguments_int(jobs->config, "Checkpoint.Streams");
        _cleanup_free_ char *dir = NULL;
        const char *suffix;
        struct stat st;

        if (isempty(req->dir))
                message_set_string(&req->dir, st_arguments_string(jobs->config, "Checkpoint.Dir"));
        if (isempty(req->compression))
                message_set_string(&req->compression, settings_format(jobs->config, streams));
        /* What is wrong with them is told by the dump itself. */
        if (image_format_from_text(req->compression, &format, NULL) < 0)
                format = IMAGE_NONE;
        *ret_format = image_format_name(format);
        suffix = streams > 1 ? "" : image_format_suffix(format);
        dir = strstr(req->dir, "://") ? xstrdup(req->dir) : path_absolute(req->dir);
        if (isempty(req->name)) {
                _cleanup_free_ char *name = xasprintf("dump-%s-%s-%lld", req->type, jid, (long long)time(NULL));

                message_set_string(&req->name, name);
                for (unsigned i = 2; i <= NAMES_MAX; i++) {
                        _cleanup_free_ char *path = xasprintf("%s/%s%s", dir, req->name, suffix);

                        if (lstat(path, &st) < 0)
                                break;
                        free(req->name);
                        req->name = xasprintf("%s-%u", name, i);
                }
        }
        return xasprintf("%s/%s%s", streq(dir, "/") ? "" : dir, req->name, suffix);
}

/** As the dump's chain decides it (dump_defaults()). */
static bool is_to_end(const struct jobs *jobs, const Daemon__DumpReq *req) {
        const Criu__CriuOpts *criu = req->criu;
        bool leave_running = criu && criu->has_leave_running ? criu->leave_running
                                                             : st_arguments_bool(jobs->config, "CRIU.LeaveRunning");

        return !leave_running && !(criu && criu->has_leave_stopped && criu->leave_stopped);
}

static int begin_checkpoint(struct dump *dump, const struct worker_task *task, const char *work_dir,
                            struct st_error **err) {
        struct job_operation *operation = &dump->operation;
        Stasis__V1__CheckpointInfo *info = message_new(&stasis__v1__checkpoint_info__descriptor);
        const char *format;
        int r;

        dump->info = info;
        info->id = xstrdup(operation->id);
        info->jid = xstrdup(operation->jid);
        info->type = xstrdup(dump->req->type);
        info->path = choose_path(operation->jobs, dump->req, operation->jid, &format);
        dump->taken = access(info->path, F_OK) >= 0;
        info->format = xstrdup(format);
        checkpoints_choose_parent(operation->jobs, dump->req, operation->jid);
        dump->changes = operation->jobs->changes;
        info->has_time = info->has_uid = info->has_ends = info->has_scheduled = 1;
        info->time = jobs_now();
        info->uid = task->uid;
        info->scheduled = operation->policy;
        info->ends = is_to_end(operation->jobs, dump->req);
        r = jobs_db_hint(operation->jobs, db_checkpoint_begin(operation->jobs->db, info, work_dir, err), err);
        if (r < 0) {
                message_freep(&dump->info);
                st_error_wrap(err, "cannot record the dump of job %s", operation->jid);
        }
        return r;
}

static int on_begin(struct worker *worker, struct worker_task *task, const char *work_dir, void *userdata,
                    struct st_error **err) {
        struct dump *dump = userdata;
        struct job_operation *operation = &dump->operation;
        struct db_job job;
        int r;

        (void)worker;
        r = jobs_get(operation->jobs, operation->jid, &job, err);
        if (r < 0)
                return r;
        if (job.state != STASIS__V1__JOB_STATE__RUNNING)
                r = st_error_set(err, EBUSY, "job %s does not run: it is %s", operation->jid,
                                 job_state_name(job.state));
        else {
                resolve(dump->req, &job);
                task->spec = TAKE_PTR(job.spec);
                if (job.record && supervisors_find(operation->jobs->supervisors, job.record))
                        task->record = supervisors_directory(job.record);
                if (dump->kind == STASIS__WORKER__OPERATION_KIND__DUMP)
                        r = begin_checkpoint(dump, task, work_dir, err);
                task->request = message_pack(&dump->req->base, &task->request_size);
        }
        db_job_clear(&job);
        return r;
}

/** What the dump tells of its checkpoint, with what was known before. */
static void complete(struct dump *dump, const Stasis__Worker__Result *result) {
        Stasis__V1__CheckpointInfo *info = dump->info, *told = result->checkpoint;
        _cleanup_(message_freep) Daemon__DumpResp *resp =
                daemon__dump_resp__unpack(NULL, result->response.len, result->response.data);

        if (resp && resp->n_paths > 0)
                message_set_string(&info->path, resp->paths[0]);
        if (told) {
                if (!isempty(told->path))
                        message_set_string(&info->path, told->path);
                if (!isempty(told->format))
                        message_set_string(&info->format, told->format);
                info->has_size = told->has_size, info->size = told->size;
                info->has_frozen = told->has_frozen, info->frozen = told->frozen;
                info->has_duration = told->has_duration, info->duration = told->duration;
                info->has_pages = told->has_pages, info->pages = told->pages;
                message_set_string(&info->parent, told->parent);
                info->has_ancestors = told->has_ancestors, info->ancestors = told->ancestors;
        }
        checkpoints_complete(info);
        /* Maybe it was changed before it was on record. */
        if (dump->changes != dump->operation.jobs->changes)
                checkpoint_chain_describe(info);
}

/** Its worker was killed after the commit, or CRIU failed then and the target is gone: the checkpoint is there. */
static bool is_left(const struct dump *dump, const struct st_error *failure) {
        return !dump->taken && st_error_number(failure) != -EEXIST && access(dump->info->path, F_OK) >= 0;
}

static void record_end(struct dump *dump, const Stasis__Worker__Result *result, const struct st_error *failure) {
        struct jobs *jobs = dump->operation.jobs;
        _cleanup_error_ struct st_error *error = NULL;
        int r;

        if (!dump->info)
                return;
        if (!result && is_left(dump, failure)) {
                jobs_settle_soon(jobs);
                return;
        }
        if (result) {
                complete(dump, result);
                r = db_checkpoint_ready(jobs->db, dump->info, &error);
        } else
                r = db_checkpoint_delete(jobs->db, dump->info->id, &error);
        if (r < 0) {
                st_log_warning("the end of the dump %s of job %s cannot be recorded now: %s", dump->info->id,
                               dump->operation.jid, st_error_message(error));
                jobs_settle_soon(jobs);
        } else
                jobs_tell(jobs, dump->operation.jid);
        if (result)
                checkpoints_limit_chain(jobs, dump->info);
}

static void on_job_ended(void *userdata) {
        struct dump *dump = userdata;

        job_operation_end(&dump->operation, dump->result, dump->profile, NULL);
        dump_free(dump);
}

static void forget(void *userdata) {
        dump_free(userdata);
}

static void on_end(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile, struct st_error *error,
                   void *userdata) {
        struct dump *dump = userdata;
        struct job_operation *operation = &dump->operation;

        record_end(dump, result, error);
        if (dump->info && dump->info->ends) {
                /* Its end, if it has come already, waited for this. */
                if (result) {
                        dump->result = message_copy(&result->base);
                        dump->profile = message_copy(&profile->base);
                        jobs_settle(operation->jobs);
                        jobs_wait(operation->jobs, &operation->jid, 1, END_WAIT_MS, on_job_ended, forget, dump);
                        return;
                }
                jobs_settle(operation->jobs);
        }
        job_operation_end(operation, result, profile, error);
        dump_free(dump);
}

static const char *kind_name(Stasis__Worker__OperationKind kind) {
        switch (kind) {
        case STASIS__WORKER__OPERATION_KIND__FREEZE:
                return "freeze";
        case STASIS__WORKER__OPERATION_KIND__UNFREEZE:
                return "unfreeze";
        default:
                return "dump";
        }
}

int jobs_dump(struct jobs *jobs, Stasis__Worker__OperationKind kind, Daemon__DumpReq *req, struct job_caller *caller,
              const struct worker_events *events, void *userdata, struct worker **ret, struct st_error **err) {
        static const struct worker_events own = {
                .begin = on_begin, .event = job_operation_event, .end = on_end, .forget = forget
        };
        _cleanup_(message_freep) Daemon__DumpReq *request = req;
        const char *jid = request->details && request->details->jid ? request->details->jid : "";
        struct dump *dump;
        int r = job_operation_check(jobs, jid, caller, err);

        if (r < 0)
                return r;

        struct worker_task task = {
                .kind = kind,
                .kind_name = kind_name(kind),
        };
        dump = NEW(struct dump);
        dump->kind = kind;
        dump->req = TAKE_PTR(request);
        *ret = job_operation_start(&dump->operation, jobs, jid, &task, caller, &own, events, userdata);
        return 0;
}
