/* SPDX-License-Identifier: Apache-2.0 */

/* Which memory of a frozen process has not been written since its last checkpoint, for which it is watched. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "image/grab_private.h"
#include "process/maps.h"
#include "process/parse.h"
#include "process/write_watch.h"

/** A process's mappings that can be watched, and what was found in them. */
struct look {
        struct grab_unwritten *ret;
        struct grab_unwritten mappings;
        bool asynchronous; /* the kernel may write to its memory without a fault */
        uint64_t at;       /* what is before was looked at */
};

static void add(struct grab_unwritten *list, uint64_t start, uint64_t end) {
        if (start >= end)
                return;
        GROW(list->pieces, list->n, list->room);
        list->pieces[list->n++] = (struct grab_piece){ start, end };
}

/**
 * Is it memory of the program's own? Not the vDSO and its like. Nor a file's: of that the kernel marks what is thrown
 * away, which then looks like an unwritten page of the program.
 */
static bool is_own(const struct map *map) {
        return !map->shared && map->inode == 0 &&
               (map->path[0] != '[' || streq(map->path, "[heap]") || streq(map->path, "[stack]") ||
                text_after(map->path, "[anon:"));
}

static int take_mapping(const struct map *map, void *userdata) {
        struct look *look = userdata;
        /* What is being read for aio(7) when the process is looked at is written into pages that count as unwritten. */
        if (text_after(map->path, "/[aio]"))
                look->asynchronous = true;
        else if (is_own(map))
                add(&look->mappings, map->start, map->end);
        return 0;
}

static int on_written(uint64_t start, uint64_t end, void *userdata) {
        struct look *look = userdata;
        add(look->ret, look->at, start);
        look->at = end;
        return 0;
}

/** What cannot be watched, or looked at, is not among the unwritten. */
static void look_at(struct look *look, int watch, int pagemap_fd, struct grab_piece mapping, bool wanted) {
        size_t before = look->ret->n;
        if (write_watch_register(watch, mapping.start, mapping.end) < 0)
                return;
        look->at = mapping.start;
        if (write_watch_scan(pagemap_fd, mapping.start, mapping.end, wanted ? on_written : NULL, look) < 0)
                look->ret->n = before;
        else if (wanted)
                add(look->ret, look->at, mapping.end);
}

void grab_watch_look(const struct grab *grab, pid_t pid, struct grab_unwritten *ret) {
        struct look look = { .ret = ret };
        int watch = -EBADF;
        for (size_t i = 0; i < grab->options.n_watches && watch < 0; i++)
                if (grab->options.watches[i].pid == pid)
                        watch = grab->options.watches[i].fd;
        _cleanup_close_ int proc_fd = watch < 0 ? -EBADF : proc_open(pid);
        _cleanup_close_ int pagemap_fd = proc_fd < 0 ? -EBADF : openat(proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
        if (pagemap_fd >= 0 && maps_each(proc_fd, take_mapping, &look) == 0 && !look.asynchronous)
                for (size_t i = 0; i < look.mappings.n; i++)
                        look_at(&look, watch, pagemap_fd, look.mappings.pieces[i], grab->options.base != NULL);
        free(look.mappings.pieces);
}
