/* SPDX-License-Identifier: Apache-2.0 */

/* The open files of a checkpoint: one row for each descriptor of each task. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/inspect_parts.h"

/** Names in one cell; of a longer list the beginning is shown. */
#define LIST_MAX 8

/** What details are made of. */
struct tables {
        const struct inspection *inspection;
        const CriuImage__UnixSk **by_inode; /* UNIX sockets, sorted */
        size_t n_by_inode;
        const CriuImage__RemapFilePath **remaps; /* sorted by the file's ID */
        size_t n_remaps;
        const CriuImage__PipeData **pipes; /* with data in them, sorted by the pipe's ID */
        size_t n_pipes;
};

static void tables_clear(struct tables *tables) {
        free(tables->by_inode);
        free(tables->remaps);
        free(tables->pipes);
}

#define COMPARE(function, type, field)                                                 \
        static int function(const void *a, const void *b) {                            \
                const type *x = *(const type *const *)a, *y = *(const type *const *)b; \
                return (x->field > y->field) - (x->field < y->field);                  \
        }
COMPARE(compare_sockets, CriuImage__UnixSk, ino)
COMPARE(compare_remaps, CriuImage__RemapFilePath, orig_id)
COMPARE(compare_pipes, CriuImage__PipeData, pipe_id)
#undef COMPARE

/** Collects all messages of a list in a sorted array of pointers. */
static void *sorted(const struct criu_image_list *list, const struct criu_image_list *more, size_t *ret_n,
                    int (*compare)(const void *, const void *)) {
        size_t n = (list ? list->n : 0) + (more ? more->n : 0);
        const ProtobufCMessage **array = xcalloc(n + 1, sizeof(*array));
        if (list && list->n > 0)
                memcpy(array, list->items, list->n * sizeof(*array));
        if (more && more->n > 0)
                memcpy(array + (n - more->n), more->items, more->n * sizeof(*array));
        qsort(array, n, sizeof(*array), compare);
        *ret_n = n;
        return array;
}

static void fill_tables(struct tables *tables) {
        const struct inspect_images *images = tables->inspection->images;
        const struct criu_image_list *files = inspect_images_find(images, "files", 0);
        tables->by_inode = xcalloc((files ? files->n : 0) + 1, sizeof(*tables->by_inode));
        for (size_t i = 0; files && i < files->n; i++) {
                const CriuImage__File *file = (const CriuImage__File *)files->items[i];
                if (file->usk)
                        tables->by_inode[tables->n_by_inode++] = file->usk;
        }
        qsort(tables->by_inode, tables->n_by_inode, sizeof(*tables->by_inode), compare_sockets);
        tables->remaps = sorted(inspect_images_find(images, "remap-fpath", 0), NULL, &tables->n_remaps, compare_remaps);
        tables->pipes = sorted(inspect_images_find(images, "pipes-data", 0),
                               inspect_images_find(images, "fifo-data", 0), &tables->n_pipes, compare_pipes);
}

static const CriuImage__UnixSk *find_socket(const struct tables *tables, uint32_t inode) {
        CriuImage__UnixSk wanted = CRIU_IMAGE__UNIX_SK__INIT;
        const CriuImage__UnixSk *key = &wanted;
        wanted.ino = inode;
        const CriuImage__UnixSk **found =
                bsearch(&key, tables->by_inode, tables->n_by_inode, sizeof(key), compare_sockets);
        return found ? *found : NULL;
}

static const CriuImage__RemapFilePath *find_remap(const struct tables *tables, uint32_t id) {
        CriuImage__RemapFilePath wanted = CRIU_IMAGE__REMAP_FILE_PATH__INIT;
        const CriuImage__RemapFilePath *key = &wanted;
        wanted.orig_id = id;
        const CriuImage__RemapFilePath **found =
                bsearch(&key, tables->remaps, tables->n_remaps, sizeof(key), compare_remaps);
        return found ? *found : NULL;
}

static uint32_t bytes_in_pipe(const struct tables *tables, uint32_t pipe_id) {
        CriuImage__PipeData wanted = CRIU_IMAGE__PIPE_DATA__INIT;
        const CriuImage__PipeData *key = &wanted;
        wanted.pipe_id = pipe_id;
        const CriuImage__PipeData **found = bsearch(&key, tables->pipes, tables->n_pipes, sizeof(key), compare_pipes);
        return found ? (*found)->bytes : 0;
}

const char *inspect_file_path(const struct inspection *inspection, uint32_t file_id) {
        const CriuImage__File *file = inspect_images_file(inspection->images, file_id);
        return file && file->reg ? file->reg->name : NULL;
}

const CriuImage__MemfdInode *inspect_memfd(const struct inspection *inspection, uint32_t inode_id) {
        const struct criu_image_list *list = inspect_images_find(inspection->images, "memfd", 0);
        /* CRIU numbers them from 1, in order. */
        if (!list || inode_id == 0 || inode_id > list->n)
                return NULL;
        const CriuImage__MemfdInode *inode = (const CriuImage__MemfdInode *)list->items[inode_id - 1];
        return inode->inode_id == inode_id ? inode : NULL;
}

static char *describe_regular(const struct tables *tables, const CriuImage__RegFile *reg) {
        static const char *const notes[] = {
                [CRIU_IMAGE__REMAP_TYPE__REMAP_LINKED] = " (deleted, linked again by CRIU)",
                [CRIU_IMAGE__REMAP_TYPE__REMAP_GHOST] = " (deleted, content in the checkpoint)",
                [CRIU_IMAGE__REMAP_TYPE__REMAP_PROCFS] = " (of a dead process)",
        };
        const CriuImage__RemapFilePath *remap = find_remap(tables, reg->id);
        unsigned type = remap && remap->has_remap_type ? (unsigned)remap->remap_type : 0;
        return xasprintf("%s%s", reg->name, remap ? type < ELEMENTSOF(notes) ? notes[type] : " (deleted)" : "");
}

static char *describe_pipe(const struct tables *tables, const char *name, uint32_t pipe_id) {
        uint32_t bytes = bytes_in_pipe(tables, pipe_id);
        _cleanup_free_ char *unnamed = name ? NULL : xasprintf("pipe:[%u]", pipe_id);
        name = name ?: unnamed;
        return bytes > 0 ? xasprintf("%s, %u bytes in it", name, bytes) : xstrdup(name);
}

/** "3, 4, …": a list of what the callback gives for 0 … n-1; NULL where it gives NULL only. */
static char *describe_list(const char *title, size_t n, const void *userdata, char *(*item)(const void *, size_t)) {
        _cleanup_strv_ struct strv list = { 0 };
        for (size_t i = 0; i < n && list.n < LIST_MAX; i++) {
                char *text = item(userdata, i);
                if (text)
                        strv_take(&list, text);
        }
        if (n > LIST_MAX)
                strv_add(&list, "…");
        _cleanup_free_ char *joined = strv_join(&list, ", ");
        return list.n > 0 ? xasprintf("%s%s", title, joined) : NULL;
}

static char *polled(const void *userdata, size_t i) {
        return xasprintf("%u", ((const CriuImage__Eventpoll *)userdata)->tfd[i]->tfd);
}

static char *watched(const void *userdata, size_t i) {
        const CriuImage__InotifyWd *wd = ((const CriuImage__Inotify *)userdata)->wd[i];
        return wd->f_handle->path ? xstrdup(wd->f_handle->path) : xasprintf("inode %" PRIu64, wd->i_ino);
}

static char *marked(const void *userdata, size_t i) {
        const CriuImage__FanotifyMark *mark = ((const CriuImage__Fanotify *)userdata)->mark[i];
        const char *path = mark->me ? mark->me->path : mark->ie ? mark->ie->f_handle->path : NULL;
        if (path)
                return xstrdup(path);
        return mark->ie ? xasprintf("inode %" PRIu64, mark->ie->i_ino) : NULL;
}

/** The i-th signal of a set that is not empty there. */
static char *signalled(const void *userdata, size_t i) {
        uint64_t mask = *(const uint64_t *)userdata;
        for (; i > 0; i--)
                mask &= mask - 1;
        int number = __builtin_ctzll(mask) + 1;
        const char *name = sigabbrev_np(number);
        return name ? xstrdup(name) : xasprintf("%d", number);
}

static char *describe_timer(const CriuImage__Timerfd *timer) {
        static const char *const clocks[] = { [CLOCK_REALTIME] = "real time",
                                              [CLOCK_MONOTONIC] = "monotonic",
                                              [CLOCK_BOOTTIME] = "boot time",
                                              [CLOCK_REALTIME_ALARM] = "real time, waking",
                                              [CLOCK_BOOTTIME_ALARM] = "boot time, waking" };
        const char *clock = timer->clockid < ELEMENTSOF(clocks) ? clocks[timer->clockid] : NULL;
        clock = clock ?: "unknown clock";
        if (timer->vsec == 0 && timer->vnsec == 0)
                return xasprintf("%s, not armed", clock);
        return xasprintf("%s, in %" PRIu64 ".%03u s", clock, timer->vsec, (unsigned)(timer->vnsec / 1000000 % 1000));
}

static char *describe_tty(const struct tables *tables, const CriuImage__TtyFile *tty) {
        const struct criu_image_list *list = inspect_images_find(tables->inspection->images, "tty-info", 0);
        const char *path = tty->has_regf_id ? inspect_file_path(tables->inspection, tty->regf_id) : NULL;
        /* A master's path says not which terminal it is of. There are few: no index. */
        for (size_t i = 0; list && i < list->n; i++) {
                const CriuImage__TtyInfo *info = (const CriuImage__TtyInfo *)list->items[i];
                if (info->id == tty->tty_info_id && info->pty && path && text_ends_with(path, "ptmx"))
                        return xasprintf("%s, of terminal %u", path, info->pty->index);
        }
        return path ? xstrdup(path) : NULL;
}

static char *describe_memfd(const struct tables *tables, const CriuImage__Memfd *memfd) {
        const CriuImage__MemfdInode *inode = inspect_memfd(tables->inspection, memfd->inode_id);
        return inode ? xasprintf("memfd:%s, %" PRIu64 " bytes", inode->name, inode->size) : NULL;
}

static const char *namespace_name(uint32_t flag) {
        static const struct {
                uint32_t flag;
                const char *name;
        } names[] = {
                { CLONE_NEWNS, "mount" },  { CLONE_NEWUTS, "uts" },       { CLONE_NEWIPC, "ipc" },
                { CLONE_NEWUSER, "user" }, { CLONE_NEWPID, "pid" },       { CLONE_NEWNET, "network" },
                { CLONE_NEWTIME, "time" }, { CLONE_NEWCGROUP, "cgroup" },
        };
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (names[i].flag == flag)
                        return names[i].name;
        return "unknown";
}

static char *describe_socket(const struct tables *tables, const CriuImage__File *file) {
        struct inspect_socket socket;
        if (!inspect_socket_from(file, file->usk ? find_socket(tables, file->usk->peer) : NULL, &socket))
                return NULL;
        _cleanup_free_ char *local = socket.local, *remote = socket.remote;
        return remote ? xasprintf("%s → %s", local ?: "", remote) : TAKE_PTR(local);
}

/** Everything of a file but its path and addresses; NULL: nothing to say. */
static char *describe_kind(const struct tables *tables, const CriuImage__File *file) {
        const CriuImage__Fifo *fifo = file->fifo;
        if (fifo)
                return describe_pipe(tables, inspect_file_path(tables->inspection, fifo->regf_id), fifo->pipe_id);
        if (file->pipe)
                return describe_pipe(tables, NULL, file->pipe->pipe_id);
        if (file->efd)
                return xasprintf("counter %" PRIu64, file->efd->counter);
        if (file->epfd)
                return describe_list("waits for ", file->epfd->n_tfd, file->epfd, polled);
        if (file->ify)
                return describe_list("", file->ify->n_wd, file->ify, watched);
        if (file->ffy)
                return describe_list("", file->ffy->n_mark, file->ffy, marked);
        if (file->sgfd)
                return describe_list("", (size_t)__builtin_popcountll(file->sgfd->sigmask), &file->sgfd->sigmask,
                                     signalled);
        if (file->tfd)
                return describe_timer(file->tfd);
        if (file->tty)
                return describe_tty(tables, file->tty);
        if (file->memfd)
                return describe_memfd(tables, file->memfd);
        if (file->pidfd)
                return file->pidfd->nspid > 0 ? xasprintf("process %d", file->pidfd->nspid) : xstrdup("a dead process");
        if (file->nsf)
                return xasprintf("%s namespace", namespace_name(file->nsf->ns_cflag));
        if (file->tunf)
                return xstrdup(file->tunf->netdev);
        return file->bpf ? xstrdup(file->bpf->map_name) : NULL;
}

static const char *type_name(const CriuImage__File *file, CriuImage__FdType type) {
        static const char *const names[] = {
                [CRIU_IMAGE__FD_TYPE__FD_PIPE] = "pipe",         [CRIU_IMAGE__FD_TYPE__FD_FIFO] = "fifo",
                [CRIU_IMAGE__FD_TYPE__FD_INETSK] = "socket",     [CRIU_IMAGE__FD_TYPE__FD_UNIXSK] = "socket",
                [CRIU_IMAGE__FD_TYPE__FD_EVENTFD] = "eventfd",   [CRIU_IMAGE__FD_TYPE__FD_EVENTPOLL] = "epoll",
                [CRIU_IMAGE__FD_TYPE__FD_INOTIFY] = "inotify",   [CRIU_IMAGE__FD_TYPE__FD_SIGNALFD] = "signalfd",
                [CRIU_IMAGE__FD_TYPE__FD_PACKETSK] = "socket",   [CRIU_IMAGE__FD_TYPE__FD_TTY] = "tty",
                [CRIU_IMAGE__FD_TYPE__FD_FANOTIFY] = "fanotify", [CRIU_IMAGE__FD_TYPE__FD_NETLINKSK] = "socket",
                [CRIU_IMAGE__FD_TYPE__FD_NS] = "namespace",      [CRIU_IMAGE__FD_TYPE__FD_TUNF] = "tun",
                [CRIU_IMAGE__FD_TYPE__FD_EXT] = "external",      [CRIU_IMAGE__FD_TYPE__FD_TIMERFD] = "timerfd",
                [CRIU_IMAGE__FD_TYPE__FD_MEMFD] = "memfd",       [CRIU_IMAGE__FD_TYPE__FD_BPFMAP] = "bpf",
                [CRIU_IMAGE__FD_TYPE__FD_PIDFD] = "pidfd",
        };
        if (type == CRIU_IMAGE__FD_TYPE__FD_REG) {
                mode_t mode = file && file->reg && file->reg->has_mode ? file->reg->mode : S_IFREG;
                return S_ISDIR(mode) ? "directory" : S_ISCHR(mode) ? "device" : S_ISBLK(mode) ? "device" : "file";
        }
        return (unsigned)type < ELEMENTSOF(names) && names[type] ? names[type] : "unknown";
}

/** The flags of an open file; false: the images have none. */
static bool flags_of(const CriuImage__File *file, uint32_t *ret) {
#define FLAGS(member)                       \
        if (file->member) {                 \
                *ret = file->member->flags; \
                return true;                \
        }
        FLAGS(reg)
        FLAGS(isk)
        FLAGS(nsf)
        FLAGS(psk)
        FLAGS(nlsk)
        FLAGS(efd)
        FLAGS(epfd)
        FLAGS(sgfd)
        FLAGS(tfd)
        FLAGS(ify)
        FLAGS(ffy)
        FLAGS(usk)
        FLAGS(pipe)
        FLAGS(tty)
        FLAGS(memfd)
        FLAGS(bpf)
        FLAGS(pidfd)
#undef FLAGS
        return false;
}

/** "rw,append,nonblock,cloexec" */
static char *describe_mode(const struct tables *tables, const CriuImage__File *file, bool close_on_exec) {
        static const struct {
                uint32_t flag;
                const char *name;
        } names[] = {
                { O_APPEND, "append" }, { O_NONBLOCK, "nonblock" }, { O_DIRECT, "direct" }, { O_DIRECTORY, "dir" },
                { O_SYNC, "sync" },     { O_PATH, "path" },         { O_ASYNC, "async" },   { O_NOATIME, "noatime" },
        };
        static const char *const access[] = { [O_RDONLY] = "r", [O_WRONLY] = "w", [O_RDWR] = "rw", [3] = "ioctl" };
        _cleanup_strv_ struct strv list = { 0 };
        uint32_t flags;
        if (file && file->fifo && file->fifo->has_regf_id) /* a FIFO's are with its path */
                file = inspect_images_file(tables->inspection->images, file->fifo->regf_id);
        if (file && flags_of(file, &flags)) {
                strv_add(&list, access[flags & O_ACCMODE]);
                for (size_t i = 0; i < ELEMENTSOF(names); i++)
                        if ((flags & names[i].flag) == names[i].flag)
                                strv_add(&list, names[i].name);
        }
        if (close_on_exec)
                strv_add(&list, "cloexec");
        return strv_join(&list, ",");
}

static void add_socket(struct inspection *inspection, const struct tables *tables, const struct inspect_fd *fd,
                       const CriuImage__File *file) {
        struct inspect_socket socket;
        if (!inspect_socket_from(file, file->usk ? find_socket(tables, file->usk->peer) : NULL, &socket))
                return;
        socket.pid = fd->pid;
        socket.fd = fd->fd;
        GROW(inspection->sockets, inspection->n_sockets, inspection->sockets_room);
        inspection->sockets[inspection->n_sockets++] = socket;
}

static void add_descriptor(struct inspection *inspection, const struct tables *tables, pid_t pid,
                           const CriuImage__Fdinfo *info) {
        const CriuImage__File *file = inspect_images_file(inspection->images, info->id);
        struct inspect_fd fd = {
                .pid = pid,
                .fd = info->fd,
                .type = type_name(file, info->type),
                .mode = describe_mode(tables, file, info->flags & FD_CLOEXEC),
        };
        if (file && file->reg) {
                fd.details = describe_regular(tables, file->reg);
                fd.regular = file->reg->has_size || (file->reg->has_mode && S_ISREG(file->reg->mode));
                fd.position = file->reg->pos;
                fd.has_size = file->reg->has_size;
                fd.size = file->reg->size;
        } else if (file) {
                fd.details = describe_socket(tables, file) ?: describe_kind(tables, file);
        }
        GROW(inspection->fds, inspection->n_fds, inspection->fds_room);
        inspection->fds[inspection->n_fds++] = fd;
        if (file)
                add_socket(inspection, tables, &fd, file);
}

int inspect_files(struct inspection *inspection, struct st_error **err) {
        _cleanup_(tables_clear) struct tables tables = { .inspection = inspection };
        fill_tables(&tables);
        for (size_t i = 0; i < inspection->n_tasks; i++) {
                const struct inspect_task *task = &inspection->tasks[i];
                const struct criu_image_list *list = inspect_images_find(inspection->images, "fdinfo", task->files_id);
                for (size_t n = 0; task->files_id != 0 && list && n < list->n; n++) {
                        add_descriptor(inspection, &tables, task->pid, (const CriuImage__Fdinfo *)list->items[n]);
                        int r = inspect_count_row(inspection, inspection->fds[inspection->n_fds - 1].details, err);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}
