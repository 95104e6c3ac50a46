/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Podman's checkpoint archive, which is also CRI's: a tar with CRIU's images in the directory checkpoint/, and what the
 * engine knows of the container beside it: config.dump, spec.dump, rootfs-diff.tar, … (pkg/checkpoint/crutils of
 * containers/podman and checkpointctl's lib/metadata.go name them). In a checkpoint of stasis all lie in one place.
 */

#include <stdbool.h>

#include <stasis/error.h>

#include "image/image.h"

#define PODMAN_DIRECTORY "checkpoint/"

/** Where a file of a checkpoint stands in the archive; malloc'ed. @return NULL: it is of stasis only */
char *podman_path(const char *name);

/** Could Podman do anything with it: does it hold a container of Podman's? @return 0; -EINVAL with err */
int podman_check(const struct image *image, enum image_format format, struct st_error **err);
