/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis job checkpoint list JID`: the checkpoints that the daemon knows. */

#include "cli/checkpoints.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/table.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/job.h"
#include "cli/operation.h"
#include "cli/output.h"

int checkpoint_ask(struct cli *cli, const char *jid, const char *id, Stasis__V1__ListCheckpointsResp **ret,
                   struct st_error **err) {
        Stasis__V1__ListCheckpointsReq req = STASIS__V1__LIST_CHECKPOINTS_REQ__INIT;

        if (jid)
                req.jid = (char *)jid;
        if (id)
                req.id = (char *)id;
        return daemon_call(cli, "/stasis.v1.Stasis/ListCheckpoints", &req.base,
                           &stasis__v1__list_checkpoints_resp__descriptor, ret, err);
}

int checkpoint_resolve(struct cli *cli, const char *word, char **ret, struct st_error **err) {
        _cleanup_(message_freep) Stasis__V1__ListCheckpointsResp *resp = NULL;
        _cleanup_error_ struct st_error *error = NULL;
        int r;

        if (strchr(word, '/') || access(word, F_OK) == 0 || errno != ENOENT || !*word) {
                *ret = path_absolute(word);
                return 0;
        }
        r = checkpoint_ask(cli, NULL, word, &resp, &error);
        if (r == -ENOENT || r == -EINVAL || r == -ECONNREFUSED || (r >= 0 && resp->n_checkpoints == 0)) {
                st_error_set(err, ENOENT, "%s: there is no such file, and %s", word,
                             r == -ECONNREFUSED ? "no daemon that may know a checkpoint of that ID"
                                                : "no checkpoint of that ID");
                st_error_hint(err, "'stasis checkpoints JID' shows the checkpoints of a job");
                return -ENOENT;
        }
        if (r < 0)
                return st_error_move(err, TAKE_PTR(error));
        r = daemon_is_here(cli, "so are its checkpoints", err);
        if (r < 0)
                return r;
        *ret = path_absolute(resp->checkpoints[0]->path ?: "");
        return 0;
}

json_t *checkpoint_json(const Stasis__V1__CheckpointInfo *checkpoint) {
        json_t *object = json_object();

        json_object_set_new(object, "id", output_text_json(checkpoint->id));
        json_object_set_new(object, "jid", output_text_json(checkpoint->jid));
        json_object_set_new(object, "type", output_text_json(checkpoint->type));
        json_object_set_new(object, "time", json_integer(checkpoint->time));
        json_object_set_new(object, "size", json_integer((json_int_t)checkpoint->size));
        json_object_set_new(object, "path", output_text_json(checkpoint->path));
        json_object_set_new(object, "format", output_text_json(checkpoint->format));
        json_object_set_new(object, "frozen_us", json_integer((json_int_t)checkpoint->frozen));
        json_object_set_new(object, "duration_us", json_integer((json_int_t)checkpoint->duration));
        json_object_set_new(object, "pages", json_integer((json_int_t)checkpoint->pages));
        json_object_set_new(object, "host", output_text_json(checkpoint->host));
        json_object_set_new(object, "uid", json_integer(checkpoint->uid));
        json_object_set_new(object, "parent",
                            isempty(checkpoint->parent) ? json_null() : output_text_json(checkpoint->parent));
        json_object_set_new(object, "ancestors", json_integer(checkpoint->ancestors));
        json_object_set_new(object, "missing", json_boolean(checkpoint->missing));
        return object;
}

int checkpoint_print(Stasis__V1__CheckpointInfo *const *checkpoints, size_t n, struct st_error **err) {
        static const char *const titles[] = { "ID", "TIME", "SIZE", "NEEDS", "PATH", NULL };
        _cleanup_(table_freep) struct table *table = table_new(titles);

        for (size_t i = 0; i < n; i++) {
                const Stasis__V1__CheckpointInfo *checkpoint = checkpoints[i];
                _cleanup_free_ char *time = job_time_text(checkpoint->time);
                _cleanup_free_ char *size = checkpoint->missing ? xstrdup("missing") : text_from_size(checkpoint->size);
                _cleanup_free_ char *needs = checkpoint->ancestors > 0 ? xasprintf("%u", checkpoint->ancestors) : NULL;

                table_add(table, (const char *const[]){ checkpoint->id, time, size, needs ?: "-", checkpoint->path });
        }
        return table_print(table, false, err);
}

static int run_list(struct cli *cli, struct st_error **err) {
        const char *jid = st_arguments_words(cli->arguments)[0];
        _cleanup_(message_freep) Stasis__V1__ListCheckpointsResp *resp = NULL;
        int r;

        cli_begin_work(cli);
        r = checkpoint_ask(cli, jid, NULL, &resp, err);
        if (r < 0)
                return r;
        if (cli->json) {
                json_t *list = json_array();

                for (size_t i = 0; i < resp->n_checkpoints; i++)
                        json_array_append_new(list, checkpoint_json(resp->checkpoints[i]));
                output_json(list);
                return EXIT_OK;
        }
        if (resp->n_checkpoints > 0)
                r = checkpoint_print(resp->checkpoints, resp->n_checkpoints, err);
        else
                printf("No checkpoints found for job %s\n", jid);
        return r < 0 ? r : EXIT_OK;
}

const struct command command_job_checkpoint = {
        .path = "job checkpoint",
        .summary = "Shows the checkpoints of jobs",
        .examples = "job checkpoint list calm-otter",
};

const struct command command_job_checkpoint_list = {
        .path = "job checkpoint list",
        .alias = "checkpoints",
        .words = "JID",
        .min_words = 1,
        .max_words = 1,
        .summary = "Lists the checkpoints of a job",
        .examples = "checkpoints calm-otter\njob checkpoint list calm-otter --json",
        .config = true,
        .run = run_list,
};
