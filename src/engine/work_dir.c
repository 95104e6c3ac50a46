/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/work_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

/* More operations at once than this on one machine would be a runaway. */
#define WORK_DIRS_MAX 100000

/* Between mkdir and flock a directory looks unused; a cleaner leaves such young ones alone. */
#define UNLOCKED_GRACE_S 10

static char *work_dir_root(void) {
        return path_join(path_run_dir(), "w");
}

int work_dir_new(char **ret, struct st_error **err) {
        _cleanup_free_ char *root = work_dir_root();
        int r;

        r = io_make_directories(root, 0700);
        if (r < 0)
                return st_error_errno(err, r, "cannot make %s", root);

        /* Starting at our PID, concurrent processes seldom try the same number. */
        for (unsigned i = 0; i < WORK_DIRS_MAX; i++) {
                _cleanup_free_ char *path = xasprintf("%s/%u", root, ((unsigned)getpid() + i) % WORK_DIRS_MAX);

                if (mkdir(path, 0700) == 0) {
                        *ret = TAKE_PTR(path);
                        return 0;
                }
                if (errno != EEXIST)
                        return st_error_errno(err, errno, "cannot make %s", path);
        }
        return st_error_set(err, EBUSY, "all work directories below %s are in use", root);
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

static bool work_dir_in_use(const char *work_dir) {
        _cleanup_free_ char *path = path_join(work_dir, "lock");
        _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0) {
                struct stat st;
                return errno == ENOENT && stat(work_dir, &st) == 0 && time(NULL) < st.st_mtim.tv_sec + UNLOCKED_GRACE_S;
        }
        return flock(fd, LOCK_EX | LOCK_NB) < 0;
}

int work_dir_clean(const char *work_dir) {
        _cleanup_free_ char *record = path_join(work_dir, "partial");
        _cleanup_free_ char *partial = NULL;
        size_t size;

        if (work_dir_in_use(work_dir))
                return -EBUSY;
        if (io_read_file(AT_FDCWD, record, 64 * 1024, &partial, &size) == 0 && is_partial(partial))
                (void)io_remove_tree(partial);
        return io_remove_tree(work_dir);
}

void work_dir_clean_stale(void) {
        _cleanup_free_ char *root = work_dir_root();
        _cleanup_closedir_ DIR *d = opendir(root);
        struct dirent *entry;

        if (!d)
                return;
        while ((entry = readdir(d))) {
                if (entry->d_name[0] == '.')
                        continue;
                _cleanup_free_ char *path = path_join(root, entry->d_name);
                (void)work_dir_clean(path);
        }
}
