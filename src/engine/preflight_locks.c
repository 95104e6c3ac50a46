/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Locks on files that the checkpoint holds, and that others hold now. CRIU takes them again by calls that wait: such a
 * restore would stand still until the other gives its lock back, for ever as a rule.
 */

#include "engine/preflight_restore.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/proc.h"

/* A line of /proc/locks is about 60 bytes: a million locks. */
#define LOCKS_MAX ((size_t)64 << 20)

/* Of FileLock.flag: include/linux/filelock.h */
#define LOCK_POSIX 1
#define LOCK_FLOCK 2
#define LOCK_OFD 1024

/* One line of /proc/locks: proc_locks(5). */
struct held {
        char kind[16], mode[16];
        pid_t pid; /* -1: an open file's, not a process's */
        dev_t dev;
        uint64_t inode, start, end;
};

/** "1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF". False: of another form, as of one that waits ("1: -> …"). */
static bool parse_line(const char *line, struct held *ret) {
        char end[24];
        unsigned major, minor;

        if (sscanf(line, "%*d: %15s %*s %15s %d %x:%x:%" SCNu64 " %" SCNu64 " %23s", ret->kind, ret->mode, &ret->pid,
                   &major, &minor, &ret->inode, &ret->start, end) != 8)
                return false;
        ret->dev = makedev(major, minor);
        if (streq(end, "EOF"))
                ret->end = UINT64_MAX;
        else if (sscanf(end, "%" SCNu64, &ret->end) != 1)
                return false;
        return true;
}

/** Would the lock of the checkpoint have to wait for the other? */
static bool collide(const CriuImage__FileLock *lock, const struct held *held) {
        uint64_t start = (uint64_t)lock->start, end = lock->len > 0 ? start + (uint64_t)lock->len - 1 : UINT64_MAX;

        if (lock->type != F_WRLCK && !streq(held->mode, "WRITE"))
                return false;
        if (lock->flag & LOCK_FLOCK)
                return streq(held->kind, "FLOCK");
        return (streq(held->kind, "POSIX") || streq(held->kind, "OFDLCK")) && start <= held->end && held->start <= end;
}

/** The file that a descriptor of a task was open on; NULL: none with a path. */
static const CriuImage__RegFile *find_file(const struct inspect_images *images, int pid, int fd) {
        const CriuImage__Ids *ids = inspect_images_one(images, "ids", (uint64_t)pid);
        const struct criu_image_list *list = ids ? inspect_images_find(images, "fdinfo", ids->files_id) : NULL;

        for (size_t i = 0; list && i < list->n; i++) {
                const CriuImage__Fdinfo *info = (const CriuImage__Fdinfo *)list->items[i];
                const CriuImage__File *file;

                if (info->fd != (uint32_t)fd)
                        continue;
                file = inspect_images_file(images, info->id);
                return file && file->reg && file->reg->name[0] == '/' ? file->reg : NULL;
        }
        return NULL;
}

static void check_lock(struct preflight *preflight, const struct inspect_images *images,
                       const CriuImage__FileLock *lock, const char *held_locks) {
        const CriuImage__RegFile *file = find_file(images, lock->pid, lock->fd);
        struct stat st;

        if (!(lock->flag & (LOCK_POSIX | LOCK_FLOCK | LOCK_OFD)) || !file || stat(file->name, &st) < 0)
                return;
        for (const char *line = held_locks; line && *line; line = strchr(line, '\n'), line += line != NULL) {
                struct held held;

                if (!parse_line(line, &held) || held.inode != st.st_ino || held.dev != st.st_dev ||
                    !collide(lock, &held))
                        continue;
                _cleanup_free_ char *owner = held.pid > 0 ? proc_describe_pid(held.pid) : NULL;

                preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EBUSY, file->name,
                               "end that process first: 'lslocks' shows all locks", "%s is locked by %s", file->name,
                               owner ?: "another process");
                return;
        }
}

static void check_locks(struct preflight *preflight, const struct inspect_images *images) {
        const CriuImage__Inventory *inventory = inspect_images_one(images, "inventory", 0);
        const struct criu_image_list *locks = inspect_images_find(images, "filelocks", 0);
        uint64_t mounts = inventory && inventory->root_ids ? inventory->root_ids->mnt_ns_id : 0;
        _cleanup_free_ char *text = NULL;

        /* With a mount namespace of its own, paths lead elsewhere. */
        if (!locks || locks->n == 0 || inspect_images_find(images, "mountpoints", mounts) ||
            io_read_file(AT_FDCWD, "/proc/locks", LOCKS_MAX, &text, NULL) < 0)
                return;
        for (size_t i = 0; i < locks->n; i++)
                check_lock(preflight, images, (const CriuImage__FileLock *)locks->items[i], text);
}

int preflight_locks(struct preflight *preflight, struct st_error **err) {
        static const char *const kinds[] = { "inventory", "ids", "fdinfo", "files", "filelocks", "mountpoints", NULL };
        const Criu__CriuOpts *criu = preflight->restore->criu;
        struct image *image = restore_context(preflight->restore)->image;
        struct inspect_images *own = NULL;
        int r = 0;

        /* Without the option there are no locks in a checkpoint: CRIU refuses the dump. */
        if (!criu->has_file_locks || !criu->file_locks)
                return 0;
        if (!preflight->images)
                r = inspect_images_load(image, kinds, &own, err);
        if (r >= 0)
                check_locks(preflight, preflight->images ?: own);
        inspect_images_free(own);
        return r;
}
