/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Removing a container, and keeping two restores apart. For a restore runc mounts the root file system of the bundle on
 * ROOT/ID/criu-root (Restore in container_linux.go of its libcontainer), and `runc delete` of what was not finished
 * removes ROOT/ID with all that is seen in it: after a runc that was killed, the files of the bundle.
 */

#include <fcntl.h>
#include <limits.h>
#include <sys/mount.h>

#include <stasis/checkpoint.h>

#include "runc_restore.h"

#define MOUNTINFO_MAX ((size_t)16 << 20)
#define UNMOUNT_ATTEMPTS 5

/** The mount points below a directory, in the order in which they were mounted. @return 0 or -errno */
static int find_mounts(const char *directory, struct util_list *points) {
        _cleanup_free_ char *text = NULL;
        char *lines = NULL, *fields = NULL;
        int r = util_read_file("/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL);

        if (r < 0)
                return r;
        for (char *line = strtok_r(text, "\n", &lines); line; line = strtok_r(NULL, "\n", &lines)) {
                char *field = strtok_r(line, " ", &fields);

                for (int i = 0; i < 4 && field; i++) /* the fifth is the mount point: proc(5) */
                        field = strtok_r(NULL, " ", &fields);
                if (!field)
                        continue;
                _cleanup_free_ char *point = util_unescape(field);
                if (util_is_below(point, directory) && !streq(point, directory))
                        util_list_add(points, point);
        }
        return 0;
}

bool runc_is_unfinished(const char *root, const char *id) {
        _cleanup_free_ char *path = util_printf("%s/%s", root, id), *real = realpath(path, NULL);
        _cleanup_free_ char *state = util_printf("%s/state.json", path);
        _cleanup_list_ struct util_list points = { 0 };

        if (!real || (runc_engine.has_state_file && access(state, F_OK) < 0))
                return real;
        return find_mounts(real, &points) >= 0 && points.n > 0;
}

/** Looks again after it: only when nothing is seen there any more may runc remove the directory. */
static int unmount_below(const char *directory, struct st_error **err) {
        int failure = 0;

        for (int attempt = 0; attempt < UNMOUNT_ATTEMPTS; attempt++) {
                _cleanup_list_ struct util_list points = { 0 };
                int r = find_mounts(directory, &points);

                if (r < 0)
                        return st_error_errno(err, r, "cannot read the mounts");
                if (points.n == 0)
                        return 0;
                for (size_t i = points.n; i > 0; i--)
                        if (umount2(points.items[i - 1], MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
                                failure = errno; /* a CRIU that has outlived its runc may have been faster */
        }
        return st_error_errno(err, failure ?: EBUSY, "cannot unmount what is mounted below %s", directory);
}

int runc_remove(const char *root, const char *id, bool force, struct st_error **err) {
        _cleanup_free_ char *path = util_printf("%s/%s", root, id), *real = realpath(path, NULL);
        _cleanup_list_ struct util_list argv = { 0 };
        int r;

        if (!real)
                return errno == ENOENT ? 0 : st_error_errno(err, errno, "cannot look at %s", path);
        r = unmount_below(real, err);
        if (r < 0)
                return r;
        runc_program(&argv, root);
        util_list_add(&argv, "delete");
        if (force)
                util_list_add(&argv, "--force");
        util_list_add(&argv, id);
        return runc_program_run(&argv, NULL, err);
}

/** One byte of the lock's file for each ID (FNV-1a); that two share one is nearly impossible, and harms nothing. */
static off_t lock_offset(const char *path) {
        uint64_t hash = 14695981039346656037u;

        for (; *path; path++)
                hash = (hash ^ (unsigned char)*path) * 1099511628211u;
        return (off_t)(hash >> 2);
}

int runc_restore_lock(struct runc_plan *plan, struct st_error **err) {
        /* The run directory has the work directories two levels below. */
        _cleanup_free_ char *file =
                util_printf("%s/../../%s.lock", st_operation_work_dir(plan->operation), runc_engine.name);
        _cleanup_free_ char *root = realpath(plan->root, NULL);
        _cleanup_free_ char *path = util_printf("%s/%s", root ?: plan->root, plan->id);
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = lock_offset(path), .l_len = 1 };

        plan->lock = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (plan->lock < 0)
                return st_error_errno(err, errno, "cannot open %s", file);
        if (fcntl(plan->lock, F_OFD_SETLK, &lock) == 0)
                return 0;
        if (errno != EAGAIN && errno != EACCES)
                return st_error_errno(err, errno, "cannot lock %s", file);
        st_error_set(err, EBUSY, "another restore of it is at work");
        st_error_hint(err, "wait for it, or take another name with --id");
        return -EBUSY;
}
