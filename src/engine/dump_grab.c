/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dump_grab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/operation.h"
#include "image/native.h"

/* Deleted files go to the work directory with CRIU's small files, which may be in memory. */
#define GHOST_LIMIT_MAX (32u << 20)

int dump_grab_from_text(const char *text, bool *ret, struct st_error **err) {
        *ret = streq(text, "grab");
        if (*ret || streq(text, "stream") || streq(text, "auto"))
                return 0;
        return st_error_set(err, EINVAL, "unknown way to capture memory '%s': auto, stream or grab", text);
}

/** @return NULL: nothing speaks against it */
static char *find_obstacle(const struct dump_context *context) {
        _cleanup_free_ char *library = path_libexec("stasis-grab.so");
        _cleanup_error_ struct st_error *error = NULL;

        if (access(library, R_OK) < 0)
                return xasprintf("a part of stasis is missing, %s", library);
        if (context->analysis->huge_pages)
                return xstrdup("it has huge pages, which only CRIU can read");
        if (context->analysis->own_mounts)
                return xstrdup("it has mounts of its own, whose files may be large");
        if (context->dump.criu->has_ghost_limit && context->dump.criu->ghost_limit > GHOST_LIMIT_MAX)
                return xstrdup("deleted files of it may be large");
        if (context->dump.criu->track_mem)
                return xstrdup("CRIU is to track its memory");
        if (grab_check(context->dump.pid, &error) < 0)
                return xstrdup(st_error_message(error));
        return NULL;
}

bool dump_grab_is_possible(const struct dump_context *context) {
        _cleanup_free_ char *obstacle = context->grab ? find_obstacle(context) : NULL;

        if (obstacle)
                st_log_info("the memory of process %d is streamed, not grabbed: %s", context->dump.pid, obstacle);
        return context->grab && !obstacle;
}

void dump_grab_track(struct dump_grab *grab, const struct dump_context *context, const struct store *store) {
        struct image_early early;
        struct st_error *error = NULL;
        int r;

        /* Who is ended has no next checkpoint; a parent it may have. */
        if (context->format != IMAGE_NATIVE || (context->dump.stop && !context->parent))
                return;
        image_early(store, &early);
        memcpy(grab->id, early.id, NATIVE_ID);
        r = write_tracker_begin(&grab->tracker, context->analysis,
                                early.parent ? early.parent->sources[0].header.id : NULL, &error);
        if (r >= 0 && grab->tracker.known)
                r = grab_base_new(early.parent, &grab->base, &error);
        if (r < 0)
                st_log_info("all memory of process %d is copied: %s", context->dump.pid, st_error_message(error));
        st_error_free(error);
}

int dump_grab_start(struct dump_grab *grab, const struct dump_context *context, struct store *store,
                    void (*progress)(uint64_t bytes, void *userdata), void *userdata, struct criu_run *run,
                    struct st_error **err) {
        const struct grab_options options = {
                .root = context->dump.pid,
                .watches = grab->tracker.watches,
                .n_watches = grab->tracker.n,
                .base = grab->base,
                .progress = progress,
                .userdata = userdata,
        };
        int r;

        grab->images = path_join(run->work_dir, "images");
        grab->parent = path_join(run->work_dir, "parent");
        grab->kdat = path_join(path_run_dir(), "criu.kdat");
        if (mkdir(grab->images, 0700) < 0)
                return st_error_errno(err, errno, "cannot make %s", grab->images);
        r = grab_make_parent(grab->parent, err);
        if (r >= 0)
                r = grab_start(&options, store, &grab->grab, &grab->criu.socket, err);
        if (r < 0)
                return r;
        grab->criu.parent = grab->parent;
        grab->criu.kdat = grab->kdat;
        run->images_dir = grab->images;
        run->grab = &grab->criu;
        return 0;
}

void dump_grab_started(struct dump_grab *grab) {
        if (grab->criu.socket >= 0)
                close(grab->criu.socket);
        grab->criu.socket = -EBADF;
}

int dump_grab_collect(struct dump_grab *grab, int timeout_ms, struct st_error **err) {
        int r = grab_wait(grab->grab, timeout_ms, err);
        uint64_t begin = clock_ns();

        if (r >= 0)
                r = grab_collect(grab->grab, grab->images, err);
        if (r < 0)
                return r;
        const struct grab_statistics statistics = grab_statistics(grab->grab);
        grab->unwatched = statistics.unwatched;
        st_log_debug("%llu pages were copied, %llu kept, in %.2f ms, CRIU's files taken in %.2f ms, the target frozen",
                     (unsigned long long)statistics.pages, (unsigned long long)statistics.kept,
                     (double)statistics.copy_ns / 1000000, (double)(clock_ns() - begin) / 1000000);
        return 0;
}

void dump_grab_committed(struct dump_grab *grab) {
        if (!grab->unwatched)
                write_tracker_commit(&grab->tracker, grab->id);
}

void dump_grab_clear(struct dump_grab *grab) {
        dump_grab_started(grab);
        if (grab->images)
                (void)io_remove_tree(grab->images);
        if (grab->parent)
                (void)io_remove_tree(grab->parent);
        write_tracker_clear(&grab->tracker);
        grab_base_free(grab->base);
        free(grab->images);
        free(grab->parent);
        free(grab->kdat);
        *grab = (struct dump_grab)DUMP_GRAB_NULL;
}
