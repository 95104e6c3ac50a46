/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What `checkpoint export` and `checkpoint import` have in common: a checkpoint written anew in another format. */

#include <stdbool.h>
#include <stdint.h>

#include <stasis/error.h>
#include <stasis/option.h>

#include "image/image.h"

struct cli;

struct conversion {
        const char *verb;        /* "export": for what is printed */
        const char *source;      /* absolute path */
        const char *destination; /* absolute path, suffix included; must not exist */
        enum image_format format;
        unsigned streams;
        bool podman; /* an archive for Podman */
};

/** The flags that both have. */
extern const struct st_option conversion_options[];

/** Reads a number of streams from --streams. @return 0, -EINVAL */
int conversion_streams(const struct cli *cli, enum image_format format, unsigned *ret, struct st_error **err);

/**
 * Reads the source, checking it, and writes the destination, all or nothing; prints what was done. The arguments have
 * been checked: it begins with cli_begin_work().
 *
 * @return EXIT_OK or a negative errno with err
 */
int conversion_run(struct cli *cli, const struct conversion *conversion, struct st_error **err);
