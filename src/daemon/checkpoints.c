/* SPDX-License-Identifier: Apache-2.0 */

/* The checkpoints of jobs that are on record: told, listed. */

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "daemon/jobs_private.h"
#include "image/image.h"

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

int checkpoints_not_there(const char *id, struct st_error **err) {
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

/** Somebody else may have folded it since: its size is what it is. */
static void look_at(Stasis__V1__CheckpointInfo *info) {
        struct stat st;

        info->has_missing = 1;
        info->missing = stat(info->path, &st) < 0;
        if (!info->missing && S_ISREG(st.st_mode)) {
                info->has_size = 1;
                info->size = (uint64_t)st.st_size;
        }
}

static int append(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        Stasis__V1__ListCheckpointsResp *resp = userdata;
        Stasis__V1__CheckpointInfo *copy = message_copy(&info->base);

        look_at(copy);
        message_append(&resp->n_checkpoints, &resp->checkpoints, copy);
        return 0;
}

int checkpoints_list(struct jobs *jobs, const char *jid, const char *id, Stasis__V1__ListCheckpointsResp *resp,
                     struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__CheckpointInfo *info = NULL;

        if (isempty(id))
                return db_checkpoint_each(jobs->db, isempty(jid) ? NULL : jid, append, resp, err);
        if (db_checkpoint_get(jobs->db, id, &info, NULL) < 0)
                return checkpoints_not_there(id, err);
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
