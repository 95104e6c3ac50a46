/* SPDX-License-Identifier: Apache-2.0 */

/* Are the files, directories and mounts there that a tree has open? */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "engine/preflight_restore.h"
#include "process/build_id.h"
#include "process/idmap.h"
#include "process/mounts.h"
#include "process/parse.h"

int preflight_files(struct preflight *preflight, struct st_error **err) {
        struct restore_findings found = { 0 };
        int r = restore_files_examine(preflight->restore, &found, err);

        for (size_t i = 0; r >= 0 && i < found.n; i++) {
                const Daemon__Finding *finding = found.items[i];

                preflight_find(preflight, finding->level, ESTALE, finding->subject, finding->hint, "%s",
                               finding->text ?: "");
        }
        restore_findings_clear(&found);
        return r;
}

/** Has the tree a mount namespace of its own? Then its paths lead elsewhere: CRIU makes its mounts anew. */
static bool has_own_mounts(const struct preflight *preflight) {
        const CriuImage__Inventory *inventory = inspect_images_one(preflight->images, "inventory", 0);
        uint64_t id = inventory && inventory->root_ids ? inventory->root_ids->mnt_ns_id : 0;

        return inspect_images_find(preflight->images, "mountpoints", id) != NULL;
}

/** IDs of files without a name: CRIU keeps these itself. */
static void note_remapped(const struct preflight *preflight, struct idmap *remapped) {
        const struct criu_image_list *list = inspect_images_find(preflight->images, "remap-fpath", 0);

        for (size_t i = 0; list && i < list->n; i++) {
                const CriuImage__RemapFilePath *remap = (const CriuImage__RemapFilePath *)list->items[i];

                idmap_put(remapped, remap->orig_id, 1);
                idmap_put(remapped, remap->remap_id, 1);
        }
}

/** Calls `call` for each open file with a path that must be there. */
static void each_path(struct preflight *preflight, void (*call)(struct preflight *, const CriuImage__RegFile *)) {
        const struct criu_image_list *list = inspect_images_find(preflight->images, "files", 0);
        _cleanup_idmap_ struct idmap remapped = { 0 };

        note_remapped(preflight, &remapped);
        for (size_t i = 0; list && i < list->n; i++) {
                const CriuImage__RegFile *file = ((const CriuImage__File *)list->items[i])->reg;

                if (file && !(file->has_ext && file->ext) && file->name[0] == '/' && !idmap_get(&remapped, file->id) &&
                    !text_after(file->name, "/proc/"))
                        call(preflight, file);
        }
}

/** Is the build ID the same? CRIU keeps it in words of four bytes. */
static bool same_build_id(const CriuImage__RegFile *file, const uint8_t *id, int length) {
        size_t size = file->n_build_id * sizeof(file->build_id[0]);

        return length > 0 && (size_t)length <= size && memcmp(file->build_id, id, (size_t)length) == 0;
}

static void check_executable(struct preflight *preflight, const CriuImage__RegFile *file) {
        _cleanup_close_ int fd = -EBADF;
        uint8_t id[BUILD_ID_MAX];
        struct stat st;

        if (file->n_build_id == 0)
                return;
        fd = open(file->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        /* What is missing, or has another size, is told by "files". */
        if (fd < 0 || fstat(fd, &st) < 0 || (file->has_size && (uint64_t)st.st_size != file->size))
                return;
        int length = build_id_read(fd, id);
        if (length >= 0 && !same_build_id(file, id, length))
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, ESTALE, file->name,
                               "install the version that ran at the dump", "it is another build than at the dump");
}

int preflight_executables(struct preflight *preflight, struct st_error **err) {
        (void)err;
        if (has_own_mounts(preflight)) {
                preflight_summary(preflight, "not looked at: a mount namespace of its own is made");
                return 0;
        }
        each_path(preflight, check_executable);
        return 0;
}

static const char *type_name(mode_t mode) {
        return S_ISDIR(mode)                    ? "directory"
               : S_ISCHR(mode) || S_ISBLK(mode) ? "device"
               : S_ISFIFO(mode)                 ? "FIFO"
                                                : "file";
}

/** Directories, devices, FIFOs; regular files are looked at by "files". CRIU compares the whole mode. */
static void check_node(struct preflight *preflight, const CriuImage__RegFile *file) {
        const char *type = type_name(file->mode);
        struct stat st;

        if (!file->has_mode || S_ISREG(file->mode) || S_ISLNK(file->mode) || text_after(file->name, "/dev/pts/"))
                return;
        if (stat(file->name, &st) < 0)
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, ENOENT, file->name,
                               "make it again, or mount what it was on", "the %s is missing", type);
        else if ((st.st_mode & S_IFMT) != (file->mode & S_IFMT))
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, ESTALE, file->name, NULL,
                               "it was a %s and is none any more", type);
        else if (st.st_mode != file->mode) {
                _cleanup_free_ char *hint = xasprintf("chmod %o %s", file->mode & 07777, file->name);

                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, ESTALE, file->name, hint,
                               "its mode is %o, it was %o", st.st_mode & 07777, file->mode & 07777);
        }
}

/** CRIU opens what was written to as it was: not where nothing can be written. */
static void check_writable(struct preflight *preflight, const CriuImage__RegFile *file) {
        struct statvfs fs;
        struct stat st;

        if ((file->flags & O_ACCMODE) != O_RDONLY && stat(file->name, &st) == 0 && S_ISREG(st.st_mode) &&
            statvfs(file->name, &fs) == 0 && (fs.f_flag & ST_RDONLY))
                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EROFS, file->name,
                               "mount it to be written to: mount -o remount,rw", "its file system is read-only");
}

/** What inotify watches is opened by its path, when CRIU could find one at the dump. */
static void check_watches(struct preflight *preflight, const CriuImage__Inotify *inotify) {
        for (size_t i = 0; i < inotify->n_wd; i++) {
                const char *path = inotify->wd[i]->f_handle->path;

                if (path && path[0] == '/' && access(path, F_OK) < 0 && errno == ENOENT)
                        preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, ENOENT, path, "make it again",
                                       "it is watched by inotify, and missing");
        }
}

int preflight_directories(struct preflight *preflight, struct st_error **err) {
        const struct criu_image_list *list = inspect_images_find(preflight->images, "files", 0);

        (void)err;
        if (has_own_mounts(preflight)) {
                preflight_summary(preflight, "not looked at: a mount namespace of its own is made");
                return 0;
        }
        each_path(preflight, check_node);
        each_path(preflight, check_writable);
        for (size_t i = 0; list && i < list->n; i++) {
                const CriuImage__File *file = (const CriuImage__File *)list->items[i];

                if (file->ify)
                        check_watches(preflight, file->ify);
        }
        return 0;
}

/** Is a path the mount point, or below it? */
static bool is_below(const char *path, const char *point) {
        const char *rest = text_after(path, point);

        return rest && (*rest == '\0' || *rest == '/' || streq(point, "/"));
}

/** Is a mount in use by a process of the tree: has it a file open there, or is it its directory? */
static bool is_used(const Daemon__ProcessState *state, const Daemon__Mount *mount) {
        for (size_t i = 0; i < state->n_openfiles; i++)
                if (state->openfiles[i]->mountid == mount->id && state->openfiles[i]->path[0] == '/' &&
                    is_below(state->openfiles[i]->path, mount->mountpoint))
                        return true;
        if (state->workingdir && !streq(mount->mountpoint, "/") && is_below(state->workingdir, mount->mountpoint))
                return true;
        for (size_t i = 0; i < state->n_children; i++)
                if (is_used(state->children[i], mount))
                        return true;
        return false;
}

static const Daemon__Mount *find_mount(Daemon__Mount *const *mounts, size_t n, const char *point) {
        for (size_t i = n; i-- > 0;) /* the last one covers the others */
                if (streq(mounts[i]->mountpoint, point))
                        return mounts[i];
        return NULL;
}

int preflight_mounts(struct preflight *preflight, struct st_error **err) {
        const Daemon__ProcessState *state = preflight->saved ? preflight->saved->state : NULL;
        _cleanup_close_ int own_fd = proc_open(getpid());
        Daemon__Mount **mounts = NULL;
        size_t n = 0;

        (void)err;
        if (!state || own_fd < 0 || mounts_read(own_fd, &n, &mounts) < 0)
                return 0;
        if (preflight->images && has_own_mounts(preflight)) {
                preflight_summary(preflight, "a namespace of its own is made");
                state = NULL;
        }
        for (size_t i = 0; state && i < state->n_mounts; i++) {
                const Daemon__Mount *then = state->mounts[i], *now = find_mount(mounts, n, then->mountpoint);

                if ((now && streq(now->fstype, then->fstype)) || !is_used(state, then))
                        continue;
                preflight_find(preflight, DAEMON__FINDING_LEVEL__WARNING, 0, then->mountpoint, "mount it there",
                               "%s (%s) was mounted there, %s is now", then->source, then->fstype,
                               now ? now->fstype : "nothing");
        }
        for (size_t i = 0; i < n; i++)
                message_freep(&mounts[i]);
        free(mounts);
        return 0;
}
