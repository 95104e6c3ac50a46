/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A fold at work, shared by native_fold.c (the file) and native_fold_pages.c (pages of ancestors that go). One thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

#include "image/native.h"
#include "image/native_fold.h"

struct folding {
        const struct native_fold *fold;
        const char *target; /* whose name the result gets */
        struct native *old;
        uint16_t *sources; /* for each old source its new number; 0 for those that are dropped and for itself */
        bool *dropped;
        struct native **siblings; /* opened alone, held; numbered after the sources that stay */
        bool *sibling_used;       /* some pages are there: it is an ancestor now */
        size_t n_siblings;
        uint16_t n_kept;           /* sources that stay */
        struct native_index index; /* the new one; files are the old one's with new runs */
        size_t room_frames;
        uint8_t *section; /* the new page digests */
        size_t section_size, section_room;
        uint8_t *buffer; /* a stored frame */
        int fd;
        uint64_t written;
};

/** Pages of a frame; of data none. */
static inline size_t fold_pages_of(const struct native_frame *frame) {
        return frame->kind == NATIVE_PAGES ? frame->decoded / NATIVE_PAGE : 0;
}

/** Writes to the new image. @return 0; -ENOSPC, -errno with err */
int fold_put(struct folding *folding, const void *data, size_t size, struct st_error **err);

/** Writes a frame of an old source as it is stored, checked. */
int fold_copy_frame(struct folding *folding, uint32_t source, uint32_t frame, struct st_error **err);

/** Lists a frame that was written. @param digests of its pages, 16 bytes each */
int fold_add_frame(struct folding *folding, const struct native_frame *frame, const uint8_t *digests,
                   struct st_error **err);

/**
 * Takes over the pages of ancestors that go, and makes the runs of the files (of the old index, in place) lead to where
 * the pages are then. What an ancestor that stays has by now is found there.
 */
int fold_take_pages(struct folding *folding, struct st_error **err);
