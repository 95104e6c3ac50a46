/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Checkpoints whose dump was begun, and of whose end nothing is recorded: the daemon died, or the disk was full. When
 * the operation is over, the place tells: nothing stands under a checkpoint's name before it is complete. It is opened
 * all the same, by a child, for that may take long.
 */

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/spawn.h"
#include "base/path.h"
#include "daemon/jobs_private.h"
#include "daemon/leftovers.h"
#include "engine/checkpoint_chain.h"

/* At once. */
#define VERIFICATIONS_MAX 2

struct verification {
        struct verification *next;
        Stasis__V1__CheckpointInfo *info;
        pid_t pid;
};

struct begun {
        Stasis__V1__CheckpointInfo **infos;
        size_t n_infos;
        struct strv operations;
};

static void begun_clear(struct begun *begun) {
        for (size_t i = 0; i < begun->n_infos; i++)
                message_freep(&begun->infos[i]);
        free(begun->infos);
        strv_clear(&begun->operations);
}

static int collect(const Stasis__V1__CheckpointInfo *info, const char *operation, void *userdata) {
        struct begun *begun = userdata;

        message_append(&begun->n_infos, &begun->infos, (Stasis__V1__CheckpointInfo *)message_copy(&info->base));
        strv_add(&begun->operations, operation ?: "");
        return 0;
}

static int ends(const Stasis__V1__CheckpointInfo *info, const char *operation, void *userdata) {
        (void)operation;
        return info->has_ends && info->ends && info->jid && streq(info->jid, userdata);
}

bool checkpoints_ending(struct jobs *jobs, const char *jid) {
        return db_checkpoint_each_begun(jobs->db, ends, (void *)jid, NULL) > 0;
}

struct unsettled {
        const char *jid;
        size_t n;
};

static int count(const Stasis__V1__CheckpointInfo *info, const char *operation, void *userdata) {
        struct unsettled *unsettled = userdata;

        (void)operation;
        if (info->jid && streq(info->jid, unsettled->jid) && !isempty(info->path) && access(info->path, F_OK) == 0)
                unsettled->n++;
        return 0;
}

size_t checkpoints_unsettled(struct jobs *jobs, const char *jid) {
        struct unsettled unsettled = { .jid = jid };

        (void)db_checkpoint_each_begun(jobs->db, count, &unsettled, NULL);
        return unsettled.n;
}

static void verification_free(struct jobs *jobs, struct verification *verification) {
        struct verification **at = &jobs->verifications;

        while (*at && *at != verification)
                at = &(*at)->next;
        if (*at)
                *at = verification->next;
        message_freep(&verification->info);
        free(verification);
}

void checkpoints_clear(struct jobs *jobs) {
        while (jobs->verifications) {
                (void)kill(jobs->verifications->pid, SIGKILL);
                verification_free(jobs, jobs->verifications);
        }
}

static void forget(struct jobs *jobs, const Stasis__V1__CheckpointInfo *info, const char *why) {
        if (db_checkpoint_delete(jobs->db, info->id, NULL) >= 0)
                st_log_warning("the dump %s of job %s %s", info->id, info->jid ?: "?", why);
        else
                jobs_settle_soon(jobs);
}

/** Opens it in a child, as `checkpoint inspect` does. @return false: it could not be started */
static bool verify(struct jobs *jobs, const Stasis__V1__CheckpointInfo *info) {
        char *const argv[] = {
                (char *)"stasis", (char *)"checkpoint", (char *)"inspect", (char *)"--", info->path, NULL
        };
        const struct spawn spawn = {
                .path = "/proc/self/exe",
                .argv = argv,
                .new_session = true,
        };
        _cleanup_error_ struct st_error *error = NULL;
        struct verification *verification;
        pid_t pid = spawn_start(&spawn, NULL, &error);

        if (pid < 0) {
                st_log_warning("cannot look at the checkpoint %s: %s", info->path, st_error_message(error));
                return false;
        }
        verification = NEW(struct verification);
        verification->pid = pid;
        verification->info = message_copy(&info->base);
        verification->next = jobs->verifications;
        jobs->verifications = verification;
        return true;
}

void checkpoints_child_ended(struct jobs *jobs, pid_t pid, int status) {
        struct verification *verification = jobs->verifications;
        _cleanup_error_ struct st_error *error = NULL;

        while (verification && verification->pid != pid)
                verification = verification->next;
        if (!verification)
                return;
        if (status == 0) {
                checkpoints_complete(verification->info);
                checkpoint_chain_describe(verification->info);
                if (db_checkpoint_ready(jobs->db, verification->info, &error) >= 0)
                        st_log_info("the dump %s of job %s had succeeded: %s", verification->info->id,
                                    verification->info->jid ?: "?", verification->info->path);
                checkpoints_limit_chain(jobs, verification->info);
        } else
                forget(jobs, verification->info, "was interrupted, and what it left is no checkpoint");
        verification_free(jobs, verification);
        jobs_settle(jobs);
}

/** Its worker has ended: if it did not get to remove what it had written, that stands where the checkpoint would be. */
static void clean_beside(const Stasis__V1__CheckpointInfo *info) {
        _cleanup_free_ char *directory =
                isempty(info->path) || info->path[0] != '/' ? NULL : path_directory(info->path);

        if (directory)
                leftovers_clean(directory, info->has_uid ? info->uid : geteuid());
}

/** @return whether it is not told yet */
static bool settle_one(struct jobs *jobs, const Stasis__V1__CheckpointInfo *info, const char *operation) {
        size_t n = 0;

        if (workers_have_work_dir(jobs->workers, operation))
                return false; /* its end will tell */
        if (workers_have_stale_work_dir(jobs->workers, operation))
                return true;
        for (const struct verification *at = jobs->verifications; at; at = at->next, n++)
                if (streq(at->info->id, info->id))
                        return false; /* its end will tell */
        if (isempty(info->path) || access(info->path, F_OK) < 0) {
                forget(jobs, info, "was interrupted");
                clean_beside(info);
                return false;
        }
        if (n < VERIFICATIONS_MAX)
                (void)verify(jobs, info);
        return true;
}

size_t checkpoints_settle(struct jobs *jobs) {
        _cleanup_(begun_clear) struct begun begun = { 0 };
        size_t n = 0;

        if (db_checkpoint_each_begun(jobs->db, collect, &begun, NULL) < 0)
                return 1;
        for (size_t i = 0; i < begun.n_infos; i++)
                n += settle_one(jobs, begun.infos[i], begun.operations.items[i]);
        return n;
}
