/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* CRIU's images of a checkpoint, read and found by kind and ID: for inspect*.c. */

#include "criu/images.h"
#include "image/image.h"

/** More bytes of images than these are not read, whatever the checkpoint says. */
#define INSPECT_BYTES_MAX ((uint64_t)512 << 20)

struct inspect_images;

/**
 * Reads all files of the kinds, in the order in which they are stored, so that an archive is gone through once.
 *
 * @param kinds names of kinds ("core", "files"), NULL-terminated
 */
int inspect_images_load(struct image *image, const char *const *kinds, struct inspect_images **ret,
                        struct st_error **err);
struct inspect_images *inspect_images_free(struct inspect_images *images);

/** The messages of a file: ("core", 42) is core-42.img, ("files", 0) is files.img. NULL: there is none. */
const struct criu_image_list *inspect_images_find(const struct inspect_images *images, const char *kind, uint64_t id);

/** As inspect_images_find(), of a file with one message. */
const void *inspect_images_one(const struct inspect_images *images, const char *kind, uint64_t id);

/** An open file by its ID; NULL: none. */
const CriuImage__File *inspect_images_file(const struct inspect_images *images, uint32_t id);
