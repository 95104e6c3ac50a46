/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which pages of a native image can come after CRIU has built a process (data of CRIU's pagemap-N.img, mm-N.img), where
 * they are in the image, and where they belong. All else CRIU reads itself: shared memory, stacks, locked memory, huge
 * pages, and what fork(2) is to clear, whose child would get it back. A plan does not change; any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

#include "image/image.h"
#include "image/native.h"

#define LAZY_PAGE ((size_t)4096)

/** No frame: pages of zeros. */
#define LAZY_ZERO UINT32_MAX

/** Pages that follow each other in the memory of a task, in one mapping, and in a frame. */
struct lazy_piece {
        uint64_t at;    /* address at the dump */
        uint32_t count; /* pages */
        uint32_t frame; /* number in lazy_plan.frames; LAZY_ZERO */
        uint16_t page;  /* the first one's number in the frame */
};

struct lazy_plan_task {
        int32_t pid;               /* of the image: pagemap-PID.img */
        struct lazy_piece *pieces; /* ascending, not overlapping */
        size_t n, room;
};

/** That a piece of a task is in a frame. */
struct lazy_use {
        uint32_t frame, task, piece;
};

struct lazy_frame {
        uint32_t source, frame;   /* of the native image */
        size_t first_use, n_uses; /* in lazy_plan.uses: one task's behind each other */
};

/** What CRIU still gets of a file. */
struct lazy_rest {
        char *name; /* of the file of pages */
        struct image_page_range *ranges;
        size_t n, room;
        char *pagemap_name; /* and the pagemap that goes with that */
        void *pagemap;
        size_t pagemap_size;
};

struct lazy_plan {
        const struct native *native; /* the image's, which must outlive the plan */
        struct lazy_plan_task *tasks;
        size_t n_tasks, room_tasks;
        struct lazy_frame *frames; /* as they lie in the files */
        size_t n_frames, room_frames;
        struct lazy_use *uses;
        size_t n_uses, room_uses;
        struct lazy_rest *rests;
        size_t n_rests, room_rests;
        uint64_t pages; /* that are not zero, of all tasks */
};

/**
 * Reads the pagemaps of an image.
 *
 * @return 0; -EOPNOTSUPP: not a native image, or one that can only be restored as a whole, err says why; -EBADMSG
 */
int lazy_plan_make(struct image *image, struct lazy_plan **ret, struct st_error **err);

/** Lets serving give CRIU only the rest: image_override(), image_select_pages(). */
int lazy_plan_apply(const struct lazy_plan *plan, struct image *image, struct st_error **err);

/** The task with that PID. @return its number, or -ENOENT */
ssize_t lazy_plan_find(const struct lazy_plan *plan, int32_t pid);

/** The piece of a task with a page; NULL: none has it. */
const struct lazy_piece *lazy_plan_piece(const struct lazy_plan_task *task, uint64_t at);

struct lazy_plan *lazy_plan_free(struct lazy_plan *plan);
static inline void lazy_plan_freep(struct lazy_plan **plan) {
        *plan = lazy_plan_free(*plan);
}
