/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/work_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

/* Between mkdir and flock a directory looks unused; a cleaner leaves such young ones alone. */
#define UNLOCKED_GRACE_S 10

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

        if (fd < 0)
                return st_error_errno(err, errno, "cannot open %s", path);
        if (flock(fd, LOCK_SH | LOCK_NB) < 0)
                return st_error_errno(err, errno, "cannot lock %s", path);
        return TAKE_FD(fd);
}

int work_dir_record_partial(const char *work_dir, const char *path, struct st_error **err) {
        _cleanup_free_ char *record = path_join(work_dir, "partial");
        int r;

        r = io_replace_file(record, path, strlen(path), 0600, false);
        if (r < 0)
                return st_error_errno(err, r, "cannot write %s", record);
        return 0;
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

/* A CRIU that was killed during a restore leaves its view of the cgroups mounted there (cgroup.c of CRIU). */
static void unmount_yards(const char *work_dir) {
        _cleanup_closedir_ DIR *d = opendir(work_dir);
        struct dirent *entry;

        while (d && (entry = readdir(d))) {
                _cleanup_free_ char *path = path_join(work_dir, entry->d_name);

                if (text_after(entry->d_name, ".criu.cgyard."))
                        (void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
        }
}

int work_dir_clean(const char *work_dir) {
        _cleanup_free_ char *record = path_join(work_dir, "partial");
        _cleanup_free_ char *partial = NULL;
        _cleanup_close_ int lock = lock_unused(work_dir);
        size_t size;

        if (lock < 0 && lock != -ENOENT)
                return lock;
        if (io_read_file(AT_FDCWD, record, 64 * 1024, &partial, &size) == 0 && is_partial(partial))
                (void)io_remove_tree(partial);
        unmount_yards(work_dir);
        return io_remove_tree(work_dir);
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
