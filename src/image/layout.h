/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * In which archive of a checkpoint each file is, and in which order. One archive holds all files, whole, in the order
 * of the manifest. In several streams all files but pages are in the first one; pages of memory are cut into pieces of
 * the manifest's size, which go around: the first piece to the second archive, and so on. A piece of a file that is
 * longer than one piece is named NAME.OFFSET (16 decimal digits), so that `cat NAME.*` makes the file again.
 */

#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

#include "image/manifest.h"

struct piece {
        size_t entry; /* of the manifest */
        uint64_t offset, size;
        unsigned part; /* in which archive */
};

/** Zero-initialise; free with layout_clear(). */
struct layout {
        struct piece *pieces; /* those of one file in a row, files in the order of the manifest */
        size_t n;
        size_t *first;  /* for each entry of the manifest its first piece; one more: n */
        unsigned parts; /* how many archives, at least 1 */
};

/** More pieces than this are not cut or believed. */
#define LAYOUT_PIECES_MAX ((size_t)4 << 20)

/** @return 0; -E2BIG: more pieces than LAYOUT_PIECES_MAX */
int layout_make(const struct manifest *manifest, struct layout *ret, struct st_error **err);
void layout_clear(struct layout *layout);

/** How pages of `total` bytes are cut for so many archives. @return bytes of a piece */
uint64_t layout_piece_size(uint64_t total, unsigned streams);

/** The name of a piece in its archive; malloc'ed. */
char *layout_piece_name(const struct manifest *manifest, const struct piece *piece);

/** The archive's name in the directory: "img-0.tar.zst"; malloc'ed. */
char *layout_part_name(unsigned part, const char *suffix);
