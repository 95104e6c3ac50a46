/* SPDX-License-Identifier: Apache-2.0 */

/* Which memory of a process has not been written since its last checkpoint, for which it is watched. */

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
        struct grab_unwritten *ret; /* NULL: nobody wants to know */
        struct grab_unwritten mappings;
        bool asynchronous; /* the kernel may write to its memory without a fault */
        bool failed;       /* what is told the next time cannot be trusted */
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
static void look_at(struct look *look, int watch, int pagemap_fd, struct grab_piece mapping) {
        size_t before = look->ret ? look->ret->n : 0;
        int r = write_watch_register(watch, look->ret ? pagemap_fd : -EBADF, mapping.start, mapping.end);
        look->failed |= r == -ENOTRECOVERABLE;
        if (r < 0)
                return;
        look->at = mapping.start;
        r = write_watch_scan(pagemap_fd, mapping.start, mapping.end, look->ret ? on_written : NULL, look);
        if (look->ret && r < 0)
                look->ret->n = before;
        else if (look->ret)
                add(look->ret, look->at, mapping.end);
}

/** @param ret NULL: it runs, and is only watched from now on. @return can what is told the next time be trusted? */
static bool look_at_all(const struct grab_watch *watch, struct grab_unwritten *ret) {
        struct look look = { .ret = ret };
        _cleanup_close_ int proc_fd = proc_open(watch->pid);
        _cleanup_close_ int pagemap_fd = proc_fd < 0 ? -EBADF : openat(proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
        if (pagemap_fd >= 0 && maps_each(proc_fd, take_mapping, &look) == 0 && !look.asynchronous)
                for (size_t i = 0; i < look.mappings.n; i++)
                        look_at(&look, watch->fd, pagemap_fd, look.mappings.pieces[i]);
        free(look.mappings.pieces);
        return !look.failed;
}

void grab_watch_begin(struct grab *grab) {
        for (size_t i = 0; i < grab->options.n_watches; i++)
                grab->unwatched |= !look_at_all(&grab->options.watches[i], NULL);
}

void grab_watch_look(struct grab *grab, pid_t pid, struct grab_unwritten *ret) {
        for (size_t i = 0; i < grab->options.n_watches; i++)
                if (grab->options.watches[i].pid == pid) {
                        grab->unwatched |= !look_at_all(&grab->options.watches[i], ret);
                        return;
                }
}
