/* SPDX-License-Identifier: Apache-2.0 */

/*
 * `stasis checkpoint import PATH`: a checkpoint of any format, also a directory of plain CRIU or an archive of one, as
 * one of stasis: with checksums. Needs no daemon.
 */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "cli/checkpoint_convert.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "engine/settings.h"

static const struct st_option import_options[] = {
        { .flag = "dir",
          .letter = 'd',
          .type = ST_OPTION_STRING,
          .key = "Checkpoint.Dir",
          .value_name = "DIR",
          .help = "directory of the checkpoint, made when missing" },
        { .flag = "name",
          .type = ST_OPTION_STRING,
          .value_name = "NAME",
          .help = "name of the checkpoint in its directory; that of PATH when not given" },
        { .flag = "compression",
          .type = ST_OPTION_STRING,
          .key = "Checkpoint.Compression",
          .value_name = "NAME",
          .help = "how the checkpoint is stored",
          .choices = IMAGE_FORMATS },
        ST_OPTION_END,
};

/** The last part of a path without the suffix of an archive; malloc'ed. */
static char *name_of(const char *path) {
        enum image_format format;
        char *name = xstrdup(path_name(path));

        if (image_format_from_path(name, &format)) {
                *strrchr(name, '.') = '\0';
                if (text_ends_with(name, ".tar"))
                        *strrchr(name, '.') = '\0';
        }
        return name;
}

static int run_import(struct cli *cli, struct st_error **err) {
        const struct st_arguments *arguments = cli->arguments;
        _cleanup_free_ char *source = path_absolute(st_arguments_words(arguments)[0]);
        _cleanup_free_ char *dir = path_absolute(st_arguments_string(arguments, "dir"));
        _cleanup_free_ char *name = st_arguments_given(arguments, "name")
                                            ? xstrdup(st_arguments_string(arguments, "name"))
                                            : name_of(source);
        struct conversion conversion = { .verb = "import", .source = source };
        const char *format = st_arguments_given(arguments, "compression")
                                     ? st_arguments_string(arguments, "compression")
                                     : settings_format(arguments, st_arguments_int(arguments, "streams"));
        int r;

        r = image_format_from_text(format, &conversion.format, err);
        if (r >= 0)
                r = conversion_streams(cli, conversion.format, &conversion.streams, err);
        if (r < 0)
                return r;
        const char *suffix = conversion.streams > 1 ? "" : image_format_suffix(conversion.format);
        _cleanup_free_ char *file = xasprintf("%s%s", name, suffix), *destination = path_join(dir, file);
        if (!path_is_name(name) || !path_is_name(file))
                return st_error_set(err, EINVAL, "bad name '%s' for a checkpoint: it must be a single file name", name);
        conversion.destination = destination;
        r = io_make_directories(dir, 0700);
        if (r < 0)
                return st_error_errno(err, r, "cannot make the directory %s", dir);
        return conversion_run(cli, &conversion, err);
}

const struct command command_checkpoint_import = {
        .path = "checkpoint import",
        .words = "PATH",
        .min_words = 1,
        .max_words = 1,
        .summary = "Takes a checkpoint of any format, also of plain criu, among those of stasis",
        .examples = "checkpoint import /tmp/criu-images --name web",
        .options = (const struct st_option *const[]){ import_options, conversion_options, NULL },
        .config = true,
        .run = run_import,
};
