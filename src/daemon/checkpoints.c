/* SPDX-License-Identifier: Apache-2.0 */

/* The checkpoints of jobs that are on record: told, listed, removed. */

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "daemon/jobs_private.h"
#include "image/image.h"
#include "image/partial.h"

Daemon__Checkpoint *checkpoint_describe(const Stasis__V1__CheckpointInfo *info) {
        Daemon__Checkpoint *checkpoint = message_new(&daemon__checkpoint__descriptor);

        message_set_string(&checkpoint->id, info->id);
        message_set_string(&checkpoint->jid, info->jid);
        message_set_string(&checkpoint->path, info->path);
        checkpoint->has_time = checkpoint->has_size = 1;
        checkpoint->time = info->time;
        checkpoint->size = (int64_t)info->size;
        return checkpoint;
}

static int not_there(const char *id, struct st_error **err) {
        st_error_set(err, ENOENT, "there is no checkpoint %s", id);
        st_error_hint(err, "see 'stasis checkpoints'");
        return -ENOENT;
}

int checkpoints_get(struct jobs *jobs, const Daemon__GetCheckpointReq *req, Stasis__V1__CheckpointInfo **ret,
                    struct st_error **err) {
        int r;

        *ret = NULL;
        if (!isempty(req->id))
                r = db_checkpoint_get(jobs->db, req->id, ret, NULL);
        else if (!isempty(req->jid))
                r = db_checkpoint_latest(jobs->db, req->jid, ret, NULL);
        else
                return st_error_set(err, EINVAL, "neither an ID of a checkpoint nor a job is named");
        if (r < 0 && r != -ENOENT)
                return st_error_errno(err, r, "cannot read the checkpoints");
        return 0;
}

static bool is_missing(const char *path) {
        return access(path, F_OK) < 0;
}

static int append(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        Stasis__V1__ListCheckpointsResp *resp = userdata;
        Stasis__V1__CheckpointInfo *copy = message_copy(&info->base);

        copy->has_missing = copy->missing = is_missing(copy->path);
        message_append(&resp->n_checkpoints, &resp->checkpoints, copy);
        return 0;
}

int checkpoints_list(struct jobs *jobs, const char *jid, const char *id, Stasis__V1__ListCheckpointsResp *resp,
                     struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = NULL;

        if (isempty(id))
                return db_checkpoint_each(jobs->db, isempty(jid) ? NULL : jid, append, resp, err);
        if (db_checkpoint_get(jobs->db, id, &info, NULL) < 0)
                return not_there(id, err);
        return append(info, resp);
}

/** A checkpoint that is a directory has no further ones. */
static uint64_t directory_size(const char *path) {
        _cleanup_closedir_ DIR *d = opendir(path);
        uint64_t size = 0;
        struct dirent *entry;
        struct stat st;

        while (d && (entry = readdir(d)))
                if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && S_ISREG(st.st_mode))
                        size += (uint64_t)st.st_size;
        return size;
}

void checkpoints_complete(Stasis__V1__CheckpointInfo *info) {
        enum image_format format;
        struct stat st;

        if (isempty(info->format) && image_format_from_path(info->path, &format))
                message_set_string(&info->format, image_format_name(format));
        if (!info->has_size && lstat(info->path, &st) >= 0) {
                info->has_size = 1;
                info->size = S_ISDIR(st.st_mode) ? directory_size(info->path) : (uint64_t)st.st_size;
        }
        if (isempty(info->host)) {
                char name[256] = "";

                (void)gethostname(name, sizeof(name) - 1);
                message_set_string(&info->host, name);
        }
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

/** Also what an earlier daemon did not get to remove. Should it fail or be cut short, the next one does it. */
static void *remove_hidden(void *userdata) {
        _cleanup_free_ char *path = userdata, *directory = path_directory(path);
        struct stat st;
        bool known = lstat(path, &st) == 0;

        (void)io_remove_tree(path);
        partial_clean(directory, known ? st.st_uid : geteuid());
        return NULL;
}

/** The many gigabytes of a checkpoint take long to go. */
static void remove_later(char *path) {
        pthread_attr_t attributes;
        pthread_t thread;
        int r = pthread_attr_init(&attributes);

        if (r == 0) {
                (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
                r = pthread_create(&thread, &attributes, remove_hidden, path);
                (void)pthread_attr_destroy(&attributes);
        }
        if (r != 0)
                (void)remove_hidden(path);
}

int checkpoints_delete(struct jobs *jobs, const char *id, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = NULL;
        _cleanup_free_ char *hidden = NULL;
        bool moved;
        int r;

        if (isempty(id))
                return st_error_set(err, EINVAL, "no checkpoint is named");
        if (db_checkpoint_get(jobs->db, id, &info, NULL) < 0)
                return not_there(id, err);
        if (!isempty(info->jid) && workers_have_job(jobs->workers, info->jid)) {
                st_error_set(err, EBUSY, "checkpoint %s may be in use: an operation on job %s runs", id, info->jid);
                st_error_hint(err, "see 'stasis daemon status'");
                return -EBUSY;
        }
        hidden = hidden_path(info->path);
        moved = rename(info->path, hidden) == 0;
        if (!moved && errno != ENOENT && errno != ENOTDIR)
                return st_error_errno(err, errno, "cannot remove %s", info->path);
        r = jobs_db_hint(jobs, db_checkpoint_delete(jobs->db, id, err), err);
        if (r < 0) {
                if (moved)
                        (void)rename(hidden, info->path);
                return r;
        }
        jobs_tell(jobs, info->jid);
        if (moved)
                remove_later(TAKE_PTR(hidden));
        return 0;
}
