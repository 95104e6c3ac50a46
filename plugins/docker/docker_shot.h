/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One run of CRIU over a paused container: by the engine, or by its runc directly (--fast). It goes on on a thread of
 * its own; the container can be unpaused as soon as CRIU has let go of it, which is long before the engine has
 * copied the images to where they are wanted.
 */

#include <stdbool.h>
#include <time.h>

#include <stasis/dump.h>

#include "docker_firm.h"
#include "docker_target.h"

/** Made by docker_shot_prepare(), freed by docker_shot_clear(). */
struct docker_shot {
        struct st_dump *dump;
        const struct docker_target *target;
        const char *directory; /* of the dump, where all files of the checkpoint go */
        char name[64];         /* of the checkpoint in the engine, and of the directory that CRIU's images come to */
        bool visible;          /* the engine sees our directory and writes to it; else to its own */
        struct engine *engine; /* of the thread */
        char *runc, *runc_root, *path; /* --fast: the program, its state, its PATH; NULL: by the engine */
        struct docker_firm *firm;      /* runs now; NULL: not started, or its end was seen */
        int status;                    /* of the runc of --fast, as waitpid(2) */
        struct timespec started;       /* CLOCK_REALTIME_COARSE */
        bool collided;                 /* it failed in a way that is worth another try: docker_collision.h */
};

/** Before the pause: who will do it, and where the images will come to. Says in the answer why --fast is not. */
int docker_shot_prepare(struct docker_shot *shot, struct st_dump *dump, const struct docker_target *target,
                        const char *directory, struct st_error **err);

/** May be called again after docker_shot_finish() failed. */
int docker_shot_start(struct docker_shot *shot, struct st_error **err);

/**
 * Waits until CRIU has let go of the container, or all has ended.
 * @return 1: it was seen to let go, the container may run; 0: ended; -ECANCELED, -ETIMEDOUT
 */
int docker_shot_wait_criu(struct docker_shot *shot, struct st_error **err);

/** Waits for the end of it all; then the images are in the directory, and nothing is left in the engine. */
int docker_shot_finish(struct docker_shot *shot, struct st_error **err);

/** What it makes is not wanted: makes the rest of it fail, and waits for its end. The container must not be paused. */
void docker_shot_abandon(struct docker_shot *shot);

void docker_shot_clear(struct docker_shot *shot);

/* --fast, docker_fast.c */

/** Can runc be called directly? Fills in runc, runc_root, path. @return -EOPNOTSUPP with what is in the way */
int docker_fast_prepare(struct docker_shot *shot, struct st_error **err);

/** Calls it, and returns when it has ended. */
int docker_fast_run(struct docker_shot *shot, struct st_error **err);
