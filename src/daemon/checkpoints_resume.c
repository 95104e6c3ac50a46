/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What operations on checkpoints left undone or untold: a daemon that died in the middle of a deletion or a fold, a
 * worker that was killed. What is there tells what was done, since all they do ends with a rename.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "daemon/jobs_private.h"
#include "daemon/leftovers.h"
#include "engine/checkpoint_chain.h"

/* The database may be changed once all of them are read. */
struct collection {
        Stasis__V1__CheckpointInfo **infos;
        size_t n_infos;
};

static void collection_clear(struct collection *collection) {
        for (size_t i = 0; i < collection->n_infos; i++)
                message_freep(&collection->infos[i]);
        free(collection->infos);
}

static void take(struct collection *collection, const Stasis__V1__CheckpointInfo *info) {
        message_append(&collection->n_infos, &collection->infos,
                       (Stasis__V1__CheckpointInfo *)message_copy(&info->base));
}

/** One that was folded has another length: it refers to less, and has more itself. */
static int take_changed(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        struct stat st;

        if (checkpoint_is_native(info) && info->has_ancestors && info->ancestors > 0 && stat(info->path, &st) == 0 &&
            (!info->has_size || (uint64_t)st.st_size != info->size))
                take(userdata, info);
        return 0;
}

void checkpoints_refresh(struct jobs *jobs) {
        _cleanup_(collection_clear) struct collection changed = { 0 };

        (void)db_checkpoint_each(jobs->db, NULL, take_changed, &changed, NULL);
        for (size_t i = 0; i < changed.n_infos; i++) {
                Stasis__V1__CheckpointInfo *info = changed.infos[i];
                struct stat st;

                if (stat(info->path, &st) < 0)
                        continue;
                info->has_size = 1;
                info->size = (uint64_t)st.st_size;
                checkpoint_chain_describe(info);
                checkpoints_record_chain(jobs, info);
        }
}

static int take_all(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        take(userdata, info);
        return 0;
}

static int end_deletion(struct jobs *jobs, const Stasis__V1__CheckpointInfo *info) {
        _cleanup_free_ char *directory =
                isempty(info->path) || info->path[0] != '/' ? NULL : path_directory(info->path);
        bool gone = access(info->path, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR);
        int r = gone ? db_checkpoint_delete(jobs->db, info->id, NULL)
                     : db_checkpoint_set_deleting(jobs->db, info->id, false, NULL);

        if (r < 0 && r != -ENOENT)
                return r;
        st_log_warning("the deletion of checkpoint %s was interrupted: %s", info->id,
                       gone ? "it is gone" : "it is still there");
        if (gone && directory)
                leftovers_clean(directory, info->has_uid ? info->uid : geteuid());
        if (!isempty(info->jid))
                jobs_tell(jobs, info->jid);
        return 0;
}

/** The newest one of each job. */
static int take_newest(const Stasis__V1__CheckpointInfo *info, void *userdata) {
        struct collection *newest = userdata;

        for (size_t i = 0; i < newest->n_infos; i++)
                if (streq(newest->infos[i]->jid, info->jid ?: ""))
                        return 0;
        if (!isempty(info->jid))
                take(newest, info);
        return 0;
}

size_t checkpoints_resume(struct jobs *jobs) {
        _cleanup_(collection_clear) struct collection deletions = { 0 }, newest = { 0 };

        if (jobs->checkpoints_resumed)
                return 0;
        /* What the daemon before has begun may still be at work. */
        if (checkpoints_are_busy(jobs))
                return 1;
        if (db_checkpoint_each_deleting(jobs->db, take_all, &deletions, NULL) < 0)
                return 1;
        for (size_t i = 0; i < deletions.n_infos; i++)
                if (end_deletion(jobs, deletions.infos[i]) < 0)
                        return 1;
        checkpoints_refresh(jobs);
        jobs->checkpoints_resumed = true;
        (void)db_checkpoint_each(jobs->db, NULL, take_newest, &newest, NULL);
        for (size_t i = 0; i < newest.n_infos; i++)
                checkpoints_limit_chain(jobs, newest.infos[i]);
        return 0;
}
