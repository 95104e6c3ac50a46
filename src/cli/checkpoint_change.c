/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `stasis checkpoint delete` and `stasis checkpoint fold`: what changes checkpoints that others may refer to. The
 * daemon does it for those that it knows, by their IDs or their paths; others are changed here.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "cli/checkpoints.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/operation.h"
#include "cli/output.h"
#include "image/image.h"
#include "image/native_fold.h"
#include "image/native_release.h"

/** How one of the two commands is done. */
struct change {
        const char *done; /* "deleted" */
        int (*by_daemon)(struct cli *cli, const char *id, struct st_error **err);
        /** @param known what the daemon has on record; NULL: there is none */
        int (*here)(const char *path, const Stasis__V1__ListCheckpointsResp *known, struct st_error **err);
};

static int delete_by_daemon(struct cli *cli, const char *id, struct st_error **err) {
        Daemon__DeleteCheckpointReq req = DAEMON__DELETE_CHECKPOINT_REQ__INIT;

        req.id = (char *)id;
        return daemon_call(cli, "/daemon.Daemon/DeleteCheckpoint", &req.base,
                           &daemon__delete_checkpoint_resp__descriptor, NULL, err);
}

static int fold_by_daemon(struct cli *cli, const char *id, struct st_error **err) {
        Stasis__V1__FoldCheckpointReq req = STASIS__V1__FOLD_CHECKPOINT_REQ__INIT;

        req.id = (char *)id;
        return daemon_call(cli, "/stasis.v1.Stasis/FoldCheckpoint", &req.base,
                           &stasis__v1__fold_checkpoint_resp__descriptor, NULL, err);
}

/** Those that the daemon knows elsewhere may refer to it. */
static int delete_here(const char *path, const Stasis__V1__ListCheckpointsResp *known, struct st_error **err) {
        _cleanup_(image_freep) struct image *image = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        _cleanup_strv_ struct strv others = { 0 };
        struct native_release release = { .place.path = path, .cancel_fd = interrupt_fd() };
        int r;

        for (size_t i = 0; known && i < known->n_checkpoints; i++)
                if (!isempty(known->checkpoints[i]->path))
                        strv_add(&others, known->checkpoints[i]->path);
        release.place.others = others.items;
        release.place.n_others = others.n;
        r = image_open(path, &image, &error);
        /* What is damaged, or lacks an ancestor, is a checkpoint all the same; what is none is not ours to delete. */
        if (r < 0 && (access(path, F_OK) < 0 || !(r == -EBADMSG || r == -ENOENT || r == -ESTALE)))
                return st_error_move(err, TAKE_PTR(error));
        return native_release(&release, NULL, err);
}

static int fold_here(const char *path, const Stasis__V1__ListCheckpointsResp *known, struct st_error **err) {
        const struct native_fold fold = { .path = path, .cancel_fd = interrupt_fd() };
        _cleanup_(image_freep) struct image *image = NULL;
        int r = image_open(path, &image, err);

        (void)known;
        if (r < 0)
                return r;
        /* Another format needs nothing besides itself. */
        return image_ancestor_count(image) > 0 ? native_fold(&fold, err) : 0;
}

/** All that the daemon knows, when there is one on this machine. @return NULL: nobody knows */
static Stasis__V1__ListCheckpointsResp *ask_known(struct cli *cli) {
        _cleanup_error_ struct st_error *error = NULL;
        Stasis__V1__ListCheckpointsReq req = STASIS__V1__LIST_CHECKPOINTS_REQ__INIT;
        Stasis__V1__ListCheckpointsResp *known = NULL;

        if (daemon_is_here(cli, "", &error) < 0 ||
            daemon_call_quickly(cli, "/stasis.v1.Stasis/ListCheckpoints", &req.base,
                                &stasis__v1__list_checkpoints_resp__descriptor, &known, &error) < 0)
                return NULL;
        return known;
}

static int change_path(struct cli *cli, const struct change *change, const char *word, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__ListCheckpointsResp *known = ask_known(cli);
        _cleanup_free_ char *path = path_absolute(word);

        for (size_t i = 0; known && i < known->n_checkpoints; i++)
                if (known->checkpoints[i]->path && streq(known->checkpoints[i]->path, path))
                        return change->by_daemon(cli, known->checkpoints[i]->id, err);
        return change->here(path, known, err);
}

static int run_change(struct cli *cli, const struct change *change, struct st_error **err) {
        const char *const *words = st_arguments_words(cli->arguments);
        json_t *changed = json_array();
        int r;

        cli_begin_work(cli);
        r = interrupt_watch(err);
        for (; *words && r >= 0; words++) {
                r = strchr(*words, '/') ? change_path(cli, change, *words, err) : change->by_daemon(cli, *words, err);
                if (r < 0)
                        break;
                json_array_append_new(changed, output_text_json(*words));
                if (!cli->json)
                        printf("%s checkpoint %s\n", change->done, *words);
        }
        if (r >= 0 && cli->json)
                output_json(json_pack("{s:O}", change->done, changed));
        json_decref(changed);
        return r < 0 ? r : EXIT_OK;
}

static int run_delete(struct cli *cli, struct st_error **err) {
        static const struct change change = { "deleted", delete_by_daemon, delete_here };

        return run_change(cli, &change, err);
}

static int run_fold(struct cli *cli, struct st_error **err) {
        static const struct change change = { "folded", fold_by_daemon, fold_here };

        return run_change(cli, &change, err);
}

const struct command command_checkpoint_delete = {
        .path = "checkpoint delete",
        .words = "PATH|ID…",
        .min_words = 1,
        .max_words = SIZE_MAX,
        .summary = "Deletes checkpoints and their files; what others need of them is copied to these first",
        .examples = "checkpoint delete 5f2c9b1e\ncheckpoint delete /backup/redis-1.stasis /backup/redis-2.stasis",
        .config = true,
        .run = run_delete,
};

const struct command command_checkpoint_fold = {
        .path = "checkpoint fold",
        .words = "PATH|ID…",
        .min_words = 1,
        .max_words = SIZE_MAX,
        .summary =
                "Makes checkpoints independent of the earlier ones that they refer to, so that they can be moved alone",
        .examples = "checkpoint fold 5f2c9b1e\ncheckpoint fold /backup/redis.stasis",
        .config = true,
        .run = run_fold,
};
