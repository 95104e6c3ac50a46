/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the processes of a tree have written since their last checkpoint, for the next one with --capture=grab.
 *
 * Linux forgets it when the last descriptor is closed that it was asked with (process/write_watch.h), and no operation
 * lasts until the next one. So a process of its own keeps them: this program again, with the word "track-writes", one
 * for each root of a tree, until that has ended. It listens at <run dir>/track/PID-START. When it dies, what it knew
 * is gone, and the next checkpoint is a full one.
 *
 * What was written is only known since the last time that somebody looked. So it belongs to one checkpoint, and only
 * once that exists: write_tracker_begin() makes the tracker forget whose it is until write_tracker_commit().
 */

#include <stdbool.h>
#include <stdint.h>

#include <stasis/error.h>

#include "image/grab.h"
#include "image/native_format.h"
#include "process/analysis.h"

#define WRITE_TRACKER "track-writes"

struct write_tracker {
        int socket; /* -EBADF: there is none */
        struct grab_watch *watches;
        size_t n;
        bool known; /* what was written since the checkpoint that was asked for is known */
};

#define WRITE_TRACKER_NULL \
        { .socket = -EBADF }

/**
 * Finds the tracker of a tree or starts it; each process that is not watched yet is made to be. Threads of the target
 * stand still for some hundred microseconds, the first time only. The tree must be locked (tree_lock.h).
 *
 * @param since identity of the checkpoint that the next one shall refer to; NULL: none
 * @return 0, also when processes are not watched, which is in the debug log; -errno with err: nothing is watched
 */
int write_tracker_begin(struct write_tracker *ret, const struct process_analysis *analysis,
                        const uint8_t since[NATIVE_ID], struct st_error **err);

/** The checkpoint exists for which all watches were looked at. */
void write_tracker_commit(struct write_tracker *tracker, const uint8_t checkpoint[NATIVE_ID]);

/** Lets go of it. */
void write_tracker_clear(struct write_tracker *tracker);

/** The process itself: `stasis track-writes SOCKET PID START`. @return exit code */
int write_tracker_main(int argc, char **argv);
