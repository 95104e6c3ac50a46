/* SPDX-License-Identifier: Apache-2.0 */

/* Mappings that CRIU cannot dump, and files that are deleted but open or mapped. */

#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/path.h"
#include "engine/preflight_dump.h"
#include "process/idmap.h"
#include "process/maps.h"
#include "process/namespaces.h"
#include "process/parse.h"

/* CRIU's limit protects from a checkpoint much larger than the process. Up to here it is raised by itself. */
#define GHOST_LIMIT_MAX (UINT64_C(1) << 30)

#define DELETED " (deleted)"

struct check {
        struct st_dump *dump;
        struct dump_problems *problems;
        bool own_ipc;        /* the tree is in the IPC namespace that we are in */
        bool plugins;        /* CRIU has plugins, which may know devices */
        struct idmap mounts; /* ids of all mounts that the tree sees */

        const struct process_task *task; /* whose maps are being read */
        int proc_fd;
        bool reported_sysv, reported_device, reported_secret; /* of this task */

        uint64_t ghost_size; /* of the largest deleted file, as CRIU counts it: what it occupies */
        char *ghost;         /* its path, and who has it open */
        char *linked;        /* a deleted file that lives on under another name, and who has it open; NULL: none */
};

/** Is something other than a file or /dev/zero mapped? Sockets are fine: rings of packet sockets. */
static bool is_device(const struct check *check, const char *link) {
        struct stat st;

        if (fstatat(check->proc_fd, link, &st, 0) < 0)
                return false;
        return S_ISBLK(st.st_mode) || (S_ISCHR(st.st_mode) && st.st_rdev != makedev(1, 5));
}

static void report_map(const struct check *check, bool *reported, const char *what, const char *path,
                       const char *hint) {
        if (*reported)
                return;
        *reported = true;
        dump_problem(check->problems, EOPNOTSUPP, hint, "process %d (%s) has %s mapped (%s), which CRIU cannot dump",
                     check->task->pid, check->task->command, what, path);
}

/* NFS keeps a file that is deleted while open as .nfs and 24 hexadecimal digits. */
static bool is_silly_name(const char *path) {
        const char *name = text_after(path_name(path), ".nfs");

        while (name && isxdigit((unsigned char)*name))
                name++;
        return name && !*name && strlen(path_name(path)) == 4 + 24;
}

/** Is the file still there under the path that the kernel shows? The suffix may be a part of its name. */
static bool is_visible(int proc_fd, const char *path, const struct statx *file) {
        _cleanup_free_ char *below = xasprintf("root%s", path);
        struct statx stx;

        return statx(proc_fd, below, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, STATX_INO, &stx) == 0 &&
               stx.stx_ino == file->stx_ino && stx.stx_dev_major == file->stx_dev_major &&
               stx.stx_dev_minor == file->stx_dev_minor;
}

/**
 * A file that may be deleted.
 *
 * @param link to it, below the process's directory in /proc
 */
static void check_deleted(struct check *check, pid_t pid, int proc_fd, const char *link, const char *path) {
        const unsigned wanted = STATX_NLINK | STATX_BLOCKS | STATX_INO | STATX_MNT_ID;
        struct statx stx;

        if (statx(proc_fd, link, AT_STATX_DONT_SYNC, wanted, &stx) < 0)
                return;
        /* The kernel's own mounts hold memory files, anonymous shared memory, rings of asynchronous I/O. */
        if ((stx.stx_mask & STATX_MNT_ID) && check->mounts.n > 0 && !idmap_get(&check->mounts, stx.stx_mnt_id))
                return;
        if (stx.stx_nlink > 0 && (is_silly_name(path) || !is_visible(proc_fd, path, &stx))) {
                if (!check->linked)
                        check->linked = xasprintf(
                                "process %d has the deleted file %.*s open", pid,
                                (int)(strlen(path) - (text_ends_with(path, DELETED) ? strlen(DELETED) : 0)), path);
        } else if (stx.stx_nlink == 0 && stx.stx_blocks * 512 > check->ghost_size) {
                check->ghost_size = stx.stx_blocks * 512;
                free(check->ghost);
                check->ghost = xasprintf("process %d has the deleted file %.*s open", pid,
                                         (int)(strlen(path) - strlen(DELETED)), path);
        }
}

static int check_map(const struct map *map, void *userdata) {
        struct check *check = userdata;
        char link[64];

        if (*map->path != '/' || map->inode == 0)
                return 0;
        snprintf(link, sizeof(link), "map_files/%" PRIx64 "-%" PRIx64, map->start, map->end);
        if (text_after(map->path, "/SYSV")) {
                if (check->own_ipc)
                        report_map(check, &check->reported_sysv, "System V shared memory of the host", map->path,
                                   "run it in an IPC namespace of its own: 'unshare --ipc'");
        } else if (text_after(map->path, "/secretmem"))
                report_map(check, &check->reported_secret, "secret memory", map->path, NULL);
        else if (text_ends_with(map->path, DELETED) || is_silly_name(map->path))
                check_deleted(check, check->task->pid, check->proc_fd, link, map->path);
        else if (text_after(map->path, "/dev/") && !text_after(map->path, "/dev/shm/") && !check->plugins &&
                 is_device(check, link))
                report_map(check, &check->reported_device, "a device", map->path, NULL);
        return 0;
}

static void check_maps(struct check *check) {
        const struct process_analysis *analysis = dump_context(check->dump)->analysis;

        for (size_t i = 0; i < analysis->n_tasks; i++) {
                _cleanup_close_ int proc_fd = proc_open(analysis->tasks[i].pid);

                if (proc_fd < 0)
                        continue;
                check->task = &analysis->tasks[i];
                check->proc_fd = proc_fd;
                check->reported_sysv = check->reported_device = check->reported_secret = false;
                (void)maps_each(proc_fd, check_map, check);
        }
}

static void check_files(struct check *check, const Daemon__ProcessState *state) {
        _cleanup_close_ int proc_fd = proc_open((pid_t)state->pid);

        for (size_t i = 0; proc_fd >= 0 && i < state->n_openfiles; i++) {
                const Daemon__File *file = state->openfiles[i];
                char link[32];

                if (*file->path != '/' || file->istty ||
                    (!text_ends_with(file->path, DELETED) && !is_silly_name(file->path)))
                        continue;
                snprintf(link, sizeof(link), "fd/%" PRIu64, file->fd);
                check_deleted(check, (pid_t)state->pid, proc_fd, link, file->path);
        }
        for (size_t i = 0; i < state->n_children; i++)
                check_files(check, state->children[i]);
}

static void judge_ghosts(struct check *check) {
        struct st_dump *dump = check->dump;
        const struct dump_context *context = dump_context(dump);
        _cleanup_free_ char *size = text_from_size(check->ghost_size);

        if (check->ghost_size <= dump->criu->ghost_limit)
                return;
        if (context->ghost_limit_given || check->ghost_size > GHOST_LIMIT_MAX) {
                _cleanup_free_ char *limit =
                        text_from_size(context->ghost_limit_given ? dump->criu->ghost_limit : GHOST_LIMIT_MAX);
                _cleanup_free_ char *hint = xasprintf("allow it by --criu-opts '{\"ghost_limit\": %" PRIu64
                                                      "}', or let the program close it",
                                                      check->ghost_size);

                dump_problem(check->problems, EFBIG,
                             check->ghost_size <= UINT32_MAX ? hint : "let the program close it",
                             "%s, which is larger (%s) than such files may be (%s)", check->ghost, size, limit);
                return;
        }
        dump->criu->has_ghost_limit = 1;
        dump->criu->ghost_limit = (uint32_t)check->ghost_size;
        st_dump_message(dump, "%s: its content (%s) goes into the checkpoint", check->ghost, size);
}

static void judge_linked(struct check *check) {
        struct st_dump *dump = check->dump;

        if (!check->linked || (dump->criu->has_link_remap && dump->criu->link_remap))
                return;
        if (dump_forced_off(dump, "link_remap")) {
                dump_problem(check->problems, EINVAL, "leave out --link-remap=false",
                             "%s, which still has another name: CRIU must link it to dump it", check->linked);
                return;
        }
        dump->criu->has_link_remap = dump->criu->link_remap = 1;
        if (!dump->stop)
                st_dump_message(dump,
                                "%s, which still has another name: CRIU finds it again only after a dump with "
                                "--stop",
                                check->linked);
}

static void note_mounts(struct check *check, const Daemon__ProcessState *state) {
        for (size_t i = 0; i < state->n_mounts; i++)
                idmap_put(&check->mounts, state->mounts[i]->id, 1);
        for (size_t i = 0; i < state->n_children; i++)
                note_mounts(check, state->children[i]);
}

void preflight_mappings(struct st_dump *dump, struct dump_problems *problems) {
        struct check check = {
                .dump = dump,
                .problems = problems,
                .own_ipc = !namespaces_differ(dump->pid, "ipc"),
                .plugins = preflight_criu_has_plugins(),
        };

        note_mounts(&check, dump->state);
        check_maps(&check);
        check_files(&check, dump->state);
        judge_ghosts(&check);
        judge_linked(&check);
        idmap_clear(&check.mounts);
        free(check.ghost);
        free(check.linked);
}
