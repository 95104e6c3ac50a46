/* SPDX-License-Identifier: Apache-2.0 */

/* `stasis checkpoint verify PATH|ID`: is a checkpoint whole? Reads all of it; needs no daemon for a path. */

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "cli/checkpoints.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "image/image.h"

static int run_verify(struct cli *cli, struct st_error **err) {
        _cleanup_(image_freep) struct image *image = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        cli_begin_work(cli);
        r = checkpoint_resolve(cli, st_arguments_words(cli->arguments)[0], &path, err);
        if (r >= 0)
                r = image_open(path, &image, err);
        if (r < 0)
                return r;
        if (!image_verified(image))
                return st_error_set(err, ENODATA,
                                    "%s has no manifest: it was not made by stasis and cannot be verified", path);
        r = interrupt_watch(err);
        if (r >= 0)
                r = image_verify(image, interrupt_fd(), err);
        if (r < 0)
                return r;
        if (cli->json)
                output_json(json_pack("{s:o,s:s,s:I,s:b}", "path", output_text_json(path), "format",
                                      image_format_name(image_get_format(image)), "size", (json_int_t)image_size(image),
                                      "valid", true));
        else
                printf("verified %s\n", path);
        return EXIT_OK;
}

const struct command command_checkpoint = {
        .path = "checkpoint",
        .summary = "Looks after checkpoints",
        .examples = "checkpoint verify /backup/redis.stasis",
};

const struct command command_checkpoint_verify = {
        .path = "checkpoint verify",
        .words = "PATH|ID",
        .min_words = 1,
        .max_words = 1,
        .summary = "Reads a whole checkpoint and checks it against its checksums",
        .examples = "checkpoint verify /backup/redis.stasis\ncheckpoint verify /backup/redis.stasis --json",
        .config = true,
        .run = run_verify,
};
