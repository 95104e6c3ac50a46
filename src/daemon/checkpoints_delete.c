/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Removing checkpoints. Others may have their pages in one that is to go: a worker has these take them over first, and
 * then gives it its hidden name, so that nobody can begin to refer to it in between. Until its row is gone all of it
 * may be done again. The row says that it is to go: a daemon that finds the file gone then takes away the row, too.
 */

#include <errno.h>
#include <sys/random.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "daemon/jobs_private.h"
#include "daemon/leftovers.h"
#include "image/image.h"

struct deletion {
        struct deletion *next; /* in jobs->deletions */
        struct jobs *jobs;
        char *id, *jid, *path;
        char *hidden; /* the name that it gets */
        bool background;
        void (*done)(struct st_error *error, void *userdata);
        void *userdata;
};

static void deletion_free(struct deletion *deletion) {
        free(deletion->id);
        free(deletion->jid);
        free(deletion->path);
        free(deletion->hidden);
        free(deletion);
}

/** What was a checkpoint, under a name that every writer takes for a leftover; malloc'ed. */
static char *hidden_path(const char *path) {
        _cleanup_free_ char *id = NULL;
        uint64_t number;

        if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number))
                number = (uint64_t)jobs_now();
        id = xasprintf("%llx", (unsigned long long)number);
        return image_partial_path(path, id);
}

static bool is_missing(const char *path) {
        return access(path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

/** It has its hidden name, or was not there. */
static int forget_row(const struct deletion *deletion, bool moved, struct st_error **err) {
        struct jobs *jobs = deletion->jobs;
        int r = jobs_db_hint(jobs, db_checkpoint_delete(jobs->db, deletion->id, err), err);

        if (r < 0) {
                if (moved)
                        (void)rename(deletion->hidden, deletion->path);
                return r;
        }
        jobs_tell(jobs, deletion->jid);
        if (moved)
                leftovers_remove(xstrdup(deletion->hidden));
        return 0;
}

static void end(struct deletion *deletion, struct st_error *error) {
        struct deletion **at = &deletion->jobs->deletions;

        while (*at && *at != deletion)
                at = &(*at)->next;
        if (*at)
                *at = deletion->next;
        if (error)
                (void)db_checkpoint_set_deleting(deletion->jobs->db, deletion->id, false, NULL);
        deletion->done(error, deletion->userdata);
        deletion_free(deletion);
}

/** What nobody can refer to. */
static int remove_plain(const struct deletion *deletion, struct st_error **err) {
        bool moved = rename(deletion->path, deletion->hidden) == 0;

        if (!moved && errno != ENOENT && errno != ENOTDIR)
                return st_error_errno(err, errno, "cannot remove %s", deletion->path);
        return forget_row(deletion, moved, err);
}

static int add_path(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        Stasis__Worker__Release *req = userdata;

        if (checkpoint_is_native(info) && !isempty(info->path) && !streq(info->path, req->path))
                message_append(&req->n_others, &req->others, xstrdup(info->path));
        return 0;
}

static int add_begun(const Stasis__V1__CheckpointInfo *info, const char *operation, void *userdata) {
        (void)operation;
        return add_path(info, userdata);
}

static int on_begin(struct worker *worker, struct worker_task *task, const char *work_dir, void *userdata,
                    struct st_error **err) {
        _cleanup_(message_freep) Stasis__Worker__Release *req = message_new(&stasis__worker__release__descriptor);
        struct deletion *deletion = userdata;
        struct db *db = deletion->jobs->db;
        int r;

        (void)worker;
        (void)work_dir;
        message_set_string(&req->path, deletion->path);
        message_set_string(&req->hidden, deletion->hidden);
        req->has_background = 1;
        req->background = deletion->background;
        r = db_checkpoint_each(db, NULL, add_path, req, err);
        if (r >= 0)
                r = db_checkpoint_each_begun(db, add_begun, req, err);
        if (r < 0)
                return r;
        task->request = message_pack(&req->base, &task->request_size);
        return 0;
}

static void on_released(const Stasis__Worker__Result *result, const Stasis__V1__Profile *profile,
                        struct st_error *error, void *userdata) {
        struct deletion *deletion = userdata;
        _cleanup_error_ struct st_error *problem = NULL;

        (void)profile;
        if (result)
                checkpoints_have_changed(deletion->jobs, result);
        else
                checkpoints_refresh(deletion->jobs);
        if (result || is_missing(deletion->path)) {
                (void)forget_row(deletion, access(deletion->hidden, F_OK) == 0, &problem);
                error = problem;
        }
        end(deletion, error);
}

/** The daemon itself ends: all stays, or is as it would be after a crash. */
static void forget(void *userdata) {
        struct deletion *deletion = userdata;
        _cleanup_error_ struct st_error *error = NULL;

        st_error_set(&error, ECANCELED, "the daemon ends");
        deletion->done(error, deletion->userdata);
        deletion_free(deletion);
}

static void release(struct deletion *deletion, const struct job_caller *caller) {
        static const struct worker_events events = { .begin = on_begin, .end = on_released, .forget = forget };
        struct worker_task task = {
                .kind = STASIS__WORKER__OPERATION_KIND__RELEASE,
                .kind_name = "delete",
                .target = xasprintf("checkpoint %s", deletion->id),
        };

        checkpoints_start(deletion->jobs, &task, caller, &events, deletion);
}

bool checkpoints_are_deleting(const struct jobs *jobs, const char *id) {
        for (const struct deletion *at = jobs->deletions; at; at = at->next)
                if (streq(at->id, id))
                        return true;
        return false;
}

static int check(struct jobs *jobs, const char *id, Stasis__V1__CheckpointInfo **ret, struct st_error **err) {
        Stasis__V1__CheckpointInfo *info;

        if (isempty(id))
                return st_error_set(err, EINVAL, "no checkpoint is named");
        if (db_checkpoint_get(jobs->db, id, ret, NULL) < 0)
                return checkpoints_not_there(id, err);
        info = *ret;
        if (checkpoints_are_deleting(jobs, id))
                return st_error_set(err, EBUSY, "checkpoint %s is being deleted already", id);
        if (!isempty(info->jid) && workers_have_job(jobs->workers, info->jid)) {
                st_error_set(err, EBUSY, "checkpoint %s may be in use: an operation on job %s runs", id, info->jid);
                st_error_hint(err, "see 'stasis daemon status'");
                return -EBUSY;
        }
        return 0;
}

void checkpoints_delete(struct jobs *jobs, const char *id, struct job_caller *caller,
                        void (*done)(struct st_error *error, void *userdata), void *userdata) {
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = NULL;
        const struct job_caller lent = *caller;
        /* Until the end: what was lent refers to it. */
        _cleanup_free_ __attribute__((unused)) char *text = TAKE_PTR(caller->text);
        _cleanup_error_ struct st_error *error = NULL;
        struct deletion *deletion;

        if (check(jobs, id, &info, &error) < 0) {
                done(error, userdata);
                return;
        }
        deletion = NEW(struct deletion);
        *deletion = (struct deletion){
                .next = jobs->deletions,
                .jobs = jobs,
                .id = xstrdup(info->id),
                .jid = xstrdup(info->jid ?: ""),
                .path = xstrdup(info->path),
                .hidden = hidden_path(info->path),
                .background = caller->policy,
                .done = done,
                .userdata = userdata,
        };
        jobs->deletions = deletion;
        if (jobs_db_hint(jobs, db_checkpoint_set_deleting(jobs->db, deletion->id, true, &error), &error) < 0) {
                end(deletion, error);
                return;
        }
        if (checkpoint_is_native(info) && !is_missing(info->path)) {
                release(deletion, &lent);
                return;
        }
        (void)remove_plain(deletion, &error);
        end(deletion, error);
}
