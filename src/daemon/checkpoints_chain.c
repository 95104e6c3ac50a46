/* SPDX-License-Identifier: Apache-2.0 */

/* Native images that refer to others: which parent a job's checkpoint gets, and which are made independent again. */

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "daemon/jobs_private.h"
#include "image/image.h"

/*
 * Two at once could want to change one file. What is done one after the other are operations on one job: no job has
 * such a name.
 */
#define SERIAL "/checkpoints"

bool checkpoint_is_native(const Stasis__V1__CheckpointInfo *info) {
        const char *path = info->path ?: "";
        enum image_format format;

        if (!isempty(info->format))
                return streq(info->format, image_format_name(IMAGE_NATIVE));
        return image_format_from_path(path, &format) && format == IMAGE_NATIVE;
}

void checkpoints_start(struct jobs *jobs, struct worker_task *task, const struct job_caller *caller,
                       const struct worker_events *events, void *userdata) {
        task->uid = caller->uid;
        task->gid = caller->gid;
        task->pid = caller->pid;
        task->privileged = caller->privileged;
        task->by_policy = caller->policy;
        task->caller = xstrdup(caller->text);
        task->jid = xstrdup(SERIAL);
        (void)workers_start(jobs->workers, task, events, userdata);
}

bool checkpoints_are_busy(const struct jobs *jobs) {
        return workers_have_stale_job(jobs->workers, SERIAL);
}

void checkpoints_record_chain(struct jobs *jobs, const Stasis__V1__CheckpointInfo *info) {
        _cleanup_error_ struct st_error *error = NULL;

        jobs->changes++;
        if (db_checkpoint_set_chain(jobs->db, info, &error) < 0)
                st_log_warning("the size of %s cannot be recorded: %s", info->path, st_error_message(error));
}

void checkpoints_have_changed(struct jobs *jobs, const Stasis__Worker__Result *result) {
        _cleanup_(message_freep) Stasis__Worker__Folded *folded =
                stasis__worker__folded__unpack(NULL, result->response.len, result->response.data);

        for (size_t i = 0; folded && i < folded->n_checkpoints; i++)
                checkpoints_record_chain(jobs, folded->checkpoints[i]);
}

struct choice {
        const struct jobs *jobs;
        struct stat dir; /* where the new one will be */
        char *path;
};

/**
 * A parent that nobody asked for is in the same directory: what is put elsewhere, on another disk perhaps, is to be
 * worth something without what is here.
 */
static bool is_beside(const char *path, const struct stat *dir) {
        _cleanup_free_ char *its = path_directory(path);
        struct stat st;

        return stat(its, &st) == 0 && st.st_dev == dir->st_dev && st.st_ino == dir->st_ino;
}

static int choose(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        struct choice *choice = userdata;

        if (!checkpoint_is_native(info) || !is_beside(info->path, &choice->dir) || access(info->path, R_OK) < 0 ||
            checkpoints_are_deleting(choice->jobs, info->id))
                return 0;
        choice->path = xstrdup(info->path);
        return 1;
}

void checkpoints_choose_parent(struct jobs *jobs, Daemon__DumpReq *req, const char *jid) {
        _cleanup_free_ char *dir = path_absolute(req->dir);
        struct choice choice = { .jobs = jobs };

        if (!isempty(req->parent) || !streq(req->compression ?: "", image_format_name(IMAGE_NATIVE)) ||
            !streq(st_arguments_string(jobs->config, "Checkpoint.Parents"), "auto") || stat(dir, &choice.dir) < 0)
                return;
        (void)db_checkpoint_each(jobs->db, jid, choose, &choice, NULL);
        if (!choice.path)
                return;
        message_set_string(&req->parent, choice.path);
        free(choice.path);
        req->has_parentoptional = req->parentoptional = 1;
}

/** A fold that is to be done. */
struct folding {
        struct jobs *jobs;
        char *path;
        void (*done)(struct st_error *error, void *userdata);
        void *userdata;
};

static void folding_end(struct folding *folding, struct st_error *error) {
        folding->done(error, folding->userdata);
        free(folding->path);
        free(folding);
}

static void on_folded(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile, struct st_error *error,
                      void *userdata) {
        struct folding *folding = userdata;

        (void)profile;
        if (result)
                checkpoints_have_changed(folding->jobs, result);
        else
                checkpoints_refresh(folding->jobs);
        folding_end(folding, error);
}

static void forget(void *userdata) {
        _cleanup_error_ struct st_error *error = NULL;

        st_error_set(&error, ECANCELED, "the daemon ends");
        folding_end(userdata, error);
}

static void start_fold(struct jobs *jobs, const Stasis__V1__CheckpointInfo *info, const struct job_caller *caller,
                       void (*done)(struct st_error *error, void *userdata), void *userdata) {
        static const struct worker_events events = { .end = on_folded, .forget = forget };
        Stasis__Worker__Fold req = STASIS__WORKER__FOLD__INIT;
        struct worker_task task = {
                .kind = STASIS__WORKER__OPERATION_KIND__FOLD,
                .kind_name = "fold",
                .target = xasprintf("checkpoint %s", info->id),
        };
        struct folding *folding = NEW(struct folding);

        *folding = (struct folding){ jobs, xstrdup(info->path), done, userdata };
        req.path = folding->path;
        req.has_background = 1;
        req.background = caller->policy;
        task.request = message_pack(&req.base, &task.request_size);
        checkpoints_start(jobs, &task, caller, &events, folding);
}

void checkpoints_fold(struct jobs *jobs, const char *id, struct job_caller *caller,
                      void (*done)(struct st_error *error, void *userdata), void *userdata) {
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = NULL;
        const struct job_caller lent = *caller;
        /* Until the end: what was lent refers to it. */
        _cleanup_free_ __attribute__((unused)) char *text = TAKE_PTR(caller->text);
        _cleanup_error_ struct st_error *error = NULL;

        if (db_checkpoint_get(jobs->db, id ?: "", &info, NULL) < 0)
                (void)checkpoints_not_there(id ?: "", &error);
        else if (!checkpoint_is_native(info))
                st_error_set(&error, EINVAL, "checkpoint %s needs no other: its format is %s", id,
                             info->format ?: "not known");
        if (error)
                done(error, userdata);
        else
                start_fold(jobs, info, &lent, done, userdata);
}

/* Its end is in the log of operations; what could not be done is tried with the next checkpoint. */
static void on_shortened(struct st_error *error, void *userdata) {
        (void)error;
        (void)userdata;
}

void checkpoints_limit_chain(struct jobs *jobs, const Stasis__V1__CheckpointInfo *info) {
        int64_t max = st_arguments_int(jobs->config, "Checkpoint.MaxChain");
        struct job_caller caller = {
                .pid = getpid(), .privileged = true, .policy = true, .text = (char *)"Checkpoint.MaxChain"
        };

        if (checkpoint_is_native(info) && info->has_ancestors && (int64_t)info->ancestors > (max > 0 ? max : 0))
                start_fold(jobs, info, &caller, on_shortened, NULL);
}
