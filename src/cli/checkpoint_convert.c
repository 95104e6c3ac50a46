/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/checkpoint_convert.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "engine/memory_budget.h"
#include "image/native_fold.h"
#include "image/podman.h"

const struct st_option conversion_options[] = {
        { .flag = "streams",
          .type = ST_OPTION_INT,
          .value_name = "N",
          .help = "write a directory of N archives at the same time" },
        { .flag = "image-codec",
          .type = ST_OPTION_STRING,
          .key = "Checkpoint.ImageCodec",
          .value_name = "NAME",
          .help = "how a checkpoint of the kind 'image' is compressed; one that is made of another stays as it is",
          .choices = NATIVE_CODECS },
        ST_OPTION_END,
};

int conversion_streams(const struct cli *cli, enum image_format format, unsigned *ret, struct st_error **err) {
        int64_t streams = st_arguments_int(cli->arguments, "streams");

        if (streams < 0 || streams > IMAGE_STREAMS_MAX)
                return st_error_set(err, EINVAL, "--streams: a checkpoint can be in 1 to %d streams, not in %lld",
                                    IMAGE_STREAMS_MAX, (long long)streams);
        *ret = (unsigned)streams;
        return image_check_streams(format, *ret, err);
}

/** An image of an image: its frames are copied as they are, with those that it has in others. */
static int copy_native(const struct conversion *conversion, struct st_error **err) {
        const struct native_fold fold = {
                .path = conversion->source,
                .destination = conversion->destination,
                .cancel_fd = interrupt_fd(),
        };
        return native_fold(&fold, err);
}

static int convert(const struct cli *cli, const struct conversion *conversion, struct image *image,
                   struct st_error **err) {
        _cleanup_free_ char *directory = path_directory(conversion->destination);
        _cleanup_free_ char *id = xasprintf("%d", (int)getpid());
        _cleanup_free_ char *partial = image_partial_path(conversion->destination, id);
        _cleanup_(store_freep) struct store *store = store_new(memory_budget(cli->arguments), directory);
        struct image_write options = {
                .format = conversion->format,
                .streams = conversion->streams,
                .podman = conversion->podman,
                .destination = conversion->destination,
                .partial = partial,
                .uid = geteuid(),
                .gid = getegid(),
                .cancel_fd = interrupt_fd(),
        };
        int r = native_codec_from_text(st_arguments_string(cli->arguments, "Checkpoint.ImageCodec"), &options.codec,
                                       err);

        if (r >= 0 && conversion->format == IMAGE_NATIVE && image_get_format(image) == IMAGE_NATIVE)
                return copy_native(conversion, err);
        if (r >= 0)
                r = image_load(image, store, interrupt_fd(), err);
        return r < 0 ? r : image_write(store, &options, err);
}

static int run(struct cli *cli, const struct conversion *conversion, struct st_error **err) {
        _cleanup_(image_freep) struct image *image = NULL;
        int r;

        r = image_check_absent(conversion->destination, err);
        if (r >= 0)
                r = image_open(conversion->source, &image, err);
        if (r >= 0)
                r = image_check(image, err);
        if (r >= 0 && conversion->podman)
                r = podman_check(image, conversion->format, err);
        if (r < 0)
                return r;
        if (!image_verified(image))
                output_talk("%s has no manifest: it was not made by stasis, and only its form could be checked",
                            conversion->source);
        r = interrupt_watch(err);
        if (r >= 0)
                r = convert(cli, conversion, image, err);
        if (r < 0)
                return r;
        if (cli->json)
                output_json(json_pack("{s:o,s:s,s:i,s:I,s:b}", "path", output_text_json(conversion->destination),
                                      "format", image_format_name(conversion->format), "streams",
                                      (int)conversion->streams, "size", (json_int_t)image_size(image), "verified",
                                      image_verified(image)));
        else
                printf("%sed %s to %s\n", conversion->verb, conversion->source, conversion->destination);
        return 0;
}

int conversion_run(struct cli *cli, const struct conversion *conversion, struct st_error **err) {
        int r;

        cli_begin_work(cli);
        r = run(cli, conversion, err);
        return r < 0 ? st_error_wrap(err, "cannot %s %s", conversion->verb, conversion->source) : EXIT_OK;
}
