/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A dump whose memory is copied by threads of ours (image/grab.h), not streamed by CRIU: when it was asked for and can
 * be. Whatever fails in it before the checkpoint is complete, the same dump is made by streaming.
 */

#include <stdbool.h>

#include <stasis/error.h>

#include "criu/criu.h"
#include "engine/dump_context.h"
#include "engine/write_tracker.h"
#include "image/grab.h"
#include "image/grab_base.h"

/** DumpReq.Capture: "auto", "stream", "grab". @return 0; -EINVAL naming them */
int dump_grab_from_text(const char *text, bool *ret, struct st_error **err);

/** Can this target be dumped so? Says why not in the log. */
bool dump_grab_is_possible(const struct dump_context *context);

struct dump_grab {
        struct grab *grab; /* NULL: there is none */
        char *images, *parent, *kdat;
        struct criu_grab criu;
        struct write_tracker tracker;
        struct grab_base *base; /* NULL: all is copied */
        uint8_t id[NATIVE_ID];  /* of the checkpoint */
        bool unwatched;         /* what is written after it will not be known */
};

#define DUMP_GRAB_NULL \
        { .criu = { .socket = -EBADF }, .tracker = WRITE_TRACKER_NULL }

/**
 * From now on what the processes write is watched, for their next checkpoint; and of what they have not written since
 * the parent this one needs no copy (`base`). When that cannot be, all is copied: the log says why.
 *
 * @param store prepared by image_write_early()
 */
void dump_grab_track(struct dump_grab *grab, const struct dump_context *context, const struct store *store);

/** Prepares the directories and starts the threads, before CRIU; tells `run` of it. */
int dump_grab_start(struct dump_grab *grab, const struct dump_context *context, struct store *store,
                    void (*progress)(uint64_t bytes, void *userdata), void *userdata, struct criu_run *run,
                    struct st_error **err);

/** CRIU has been started: the socket is its alone. */
void dump_grab_started(struct dump_grab *grab);

/** At CRIU's post-dump hook: waits for the memory, takes all other files. */
int dump_grab_collect(struct dump_grab *grab, int timeout_ms, struct st_error **err);

/** The checkpoint exists: the next one of the same processes may refer to it. */
void dump_grab_committed(struct dump_grab *grab);

/** Removes the directories; the grab has ended. */
void dump_grab_clear(struct dump_grab *grab);
