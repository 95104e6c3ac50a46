/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/work_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "process/mounts.h"
#include "process/parse.h"

/* Between mkdir and flock a directory looks unused; a cleaner leaves such young ones alone. */
#define UNLOCKED_GRACE_S 10

/* An engine whose client has died may still be writing into a directory when that is removed. */
#define REMOVE_ATTEMPTS 20

static char *work_dir_root(void) {
        return path_join(path_run_dir(), "w");
}

int work_dir_new(char **ret, struct st_error **err) {
        _cleanup_free_ char *root = work_dir_root();
        _cleanup_free_ char *path = path_join(root, "XXXXXX");
        int r;

        r = io_make_directories(root, 0700);
        if (r < 0)
                return st_error_errno(err, r, "cannot make %s", root);
        /* A name of its own, used once: whoever cleans up by name never means another one. */
        if (!mkdtemp(path))
                return st_error_errno(err, errno, "cannot make a directory in %s", root);
        *ret = TAKE_PTR(path);
        return 0;
}

int work_dir_lock(const char *work_dir, struct st_error **err) {
        _cleanup_free_ char *path = path_join(work_dir, "lock");
        _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0) {
                int r = st_error_errno(err, errno, "cannot open %s", path);
                (void)rmdir(work_dir); /* without a lock it looks like one that is just being made */
                return r;
        }
        if (flock(fd, LOCK_SH | LOCK_NB) < 0)
                return st_error_errno(err, errno, "cannot lock %s", path);
        return TAKE_FD(fd);
}

int work_dir_record_partial(const char *work_dir, const char *path, struct st_error **err) {
        _cleanup_free_ char *record = path_join(work_dir, "partial");
        _cleanup_close_ int fd = open(record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        int r = fd < 0 ? -errno : io_write_full(fd, path, strlen(path) + 1);

        return r < 0 ? st_error_errno(err, r, "cannot write %s", record) : 0;
}

/** A recorded path is only believed when it is a hidden name that stasis gives. */
static bool is_partial(const char *path) {
        return path[0] == '/' && path_name(path)[0] == '.' && strstr(path_name(path), ".partial-");
}

/**
 * Takes the lock of a directory that nobody uses.
 *
 * @return the descriptor; -ENOENT when there is no lock to take, and none is to be expected; -EBUSY; another -errno
 */
static int lock_unused(const char *work_dir) {
        _cleanup_free_ char *path = path_join(work_dir, "lock");
        _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        struct stat st;

        if (fd < 0 && errno == ENOENT)
                return stat(work_dir, &st) == 0 && time(NULL) < st.st_mtim.tv_sec + UNLOCKED_GRACE_S ? -EBUSY : -ENOENT;
        if (fd < 0)
                return -errno;
        return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -EBUSY : TAKE_FD(fd);
}

/*
 * Takes away what is mounted below it. A CRIU that was killed during a restore leaves its view of the cgroups there
 * (cgroup.c of CRIU), in whatever directory was its work directory; a plugin that was killed, its own.
 */
static void unmount_all(const char *work_dir) {
        _cleanup_free_ char *real = realpath(work_dir, NULL), *below = real ? xasprintf("%s/", real) : NULL;
        _cleanup_close_ int proc_fd = proc_open(getpid());
        Daemon__Mount **mounts = NULL;
        size_t n = 0;

        if (below && proc_fd >= 0)
                (void)mounts_read(proc_fd, &n, &mounts);
        for (size_t i = n; i > 0; i--) { /* what was mounted last lies above */
                if (text_after(mounts[i - 1]->mountpoint, below))
                        (void)umount2(mounts[i - 1]->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
                message_freep(&mounts[i - 1]);
        }
        free(mounts);
}

static void remove_partial(const char *work_dir) {
        _cleanup_free_ char *record = path_join(work_dir, "partial");
        _cleanup_free_ char *paths = NULL;
        size_t size;

        if (io_read_file(AT_FDCWD, record, 64 * 1024, &paths, &size) < 0)
                return;
        for (size_t at = 0; at < size; at += strlen(paths + at) + 1)
                for (int i = 0; is_partial(paths + at) && i < REMOVE_ATTEMPTS; i++)
                        if (io_remove_tree(paths + at) != -ENOTEMPTY)
                                break;
}

int work_dir_clean(const char *work_dir) {
        _cleanup_close_ int lock = lock_unused(work_dir);
        int r;

        if (lock < 0 && lock != -ENOENT)
                return lock;
        remove_partial(work_dir);
        unmount_all(work_dir);
        r = io_remove_tree(work_dir);
        /* A program that a plugin had started is still at work there. */
        return r == -ENOTEMPTY || r == -EXDEV ? -EBUSY : r;
}

void work_dir_clean_stale(struct strv *ret_busy) {
        _cleanup_free_ char *root = work_dir_root();
        _cleanup_closedir_ DIR *d = opendir(root);
        struct dirent *entry;

        if (!d)
                return;
        while ((entry = readdir(d))) {
                if (entry->d_name[0] == '.')
                        continue;
                _cleanup_free_ char *path = path_join(root, entry->d_name);
                if (work_dir_clean(path) == -EBUSY && ret_busy)
                        strv_add(ret_busy, path);
        }
}
