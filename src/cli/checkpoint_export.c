/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `stasis checkpoint export PATH|ID DEST`: a checkpoint in another format, for other programs or another disk. Exported
 * as `none` it is a directory that plain `criu restore` accepts. Needs no daemon for a path.
 */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/path.h"
#include "cli/checkpoint_convert.h"
#include "cli/checkpoints.h"
#include "cli/cli.h"
#include "cli/command.h"

static const struct st_option export_options[] = {
        { .flag = "compression",
          .type = ST_OPTION_STRING,
          .value_name = "NAME",
          .help = "format of the export; not given: by the end of DEST's name, a directory if that has none",
          .choices = IMAGE_FORMATS },
        { .flag = "podman",
          .type = ST_OPTION_BOOL,
          .help = "an archive that 'podman container restore --import' reads, of one that Podman made" },
        ST_OPTION_END,
};

/** "out.zip" would be a directory of that name, which nobody means. */
static int check_suffix(const char *destination, struct st_error **err) {
        const char *name = path_name(destination), *suffix = strrchr(name, '.');
        _cleanup_free_ char *known = NULL;

        if (!suffix || suffix == name)
                return 0;
        known = image_known_suffixes();
        st_error_set(err, EINVAL, "%s: %s is no format of checkpoints", destination, suffix);
        st_error_hint(err, "let it end with %s, or name the format: --compression none makes a directory", known);
        return -EINVAL;
}

static int choose_format(const struct st_arguments *arguments, const char *destination, enum image_format *ret,
                         struct st_error **err) {
        enum image_format named = IMAGE_NONE;
        bool is_named = image_format_from_path(destination, &named);
        int r;

        *ret = named;
        if (!st_arguments_given(arguments, "compression"))
                return is_named ? 0 : check_suffix(destination, err);
        r = image_format_from_text(st_arguments_string(arguments, "compression"), ret, err);
        if (r >= 0 && is_named && named != *ret)
                return st_error_set(err, EINVAL, "%s has the name of the format %s, not of %s", destination,
                                    image_format_name(named), image_format_name(*ret));
        return r;
}

static int run_export(struct cli *cli, struct st_error **err) {
        const char *const *words = st_arguments_words(cli->arguments);
        _cleanup_free_ char *source = NULL, *destination = path_absolute(words[1]);
        struct conversion conversion = { .verb = "export", .destination = destination };
        int r;

        conversion.podman = st_arguments_bool(cli->arguments, "podman");
        r = choose_format(cli->arguments, destination, &conversion.format, err);
        if (r >= 0)
                r = conversion_streams(cli, conversion.format, &conversion.streams, err);
        if (r >= 0 && conversion.podman && conversion.streams > 1)
                r = st_error_set(err, EINVAL, "--streams: Podman reads one archive");
        if (r < 0)
                return r;
        cli_begin_work(cli);
        r = checkpoint_resolve(cli, words[0], &source, err);
        conversion.source = source;
        return r < 0 ? r : conversion_run(cli, &conversion, err);
}

const struct command command_checkpoint_export = {
        .path = "checkpoint export",
        .words = "PATH|ID DEST",
        .min_words = 2,
        .max_words = 2,
        .summary = "Writes a checkpoint in another format; a directory is what plain criu restores",
        .examples = "checkpoint export /backup/redis.stasis /tmp/redis\n"
                    "checkpoint export /backup/redis.stasis /tmp/redis.tar.gz",
        .options = (const struct st_option *const[]){ export_options, conversion_options, NULL },
        .config = true,
        .run = run_export,
};
