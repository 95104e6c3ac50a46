/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A process whose memory is still coming (`restore --lazy`) must not be dumped: CRIU would succeed, and the checkpoint
 * would not hold what is missing. So the dump waits until all is in.
 */

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "engine/dump_context.h"
#include "engine/lazy_record.h"
#include "engine/operation.h"
#include "process/proc.h"
#include "process/tree.h"

#define STEP_MS 20

/* So many parents a process may have; more is a circle of PIDs that were used again meanwhile. */
#define ANCESTORS_MAX 4096

static bool names(const struct lazy_record_info *info, pid_t pid, uint64_t start_time) {
        for (size_t i = 0; i < info->n; i++)
                if (info->processes[i].pid == pid && info->processes[i].start_time == start_time)
                        return true;
        return false;
}

/** Is one of the tree, or who made it, one of the record's? */
static bool concerns(const struct lazy_record_info *info, const struct tree *tree) {
        pid_t pid = tree->tasks[0].pid;

        for (size_t i = 0; i < tree->n; i++)
                if (names(info, tree->tasks[i].pid, tree->tasks[i].start_time))
                        return true;
        for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
                struct proc_stat stat;

                if (proc_read_stat(pid, &stat) < 0)
                        return false;
                if (names(info, pid, stat.start_time))
                        return true;
                pid = stat.ppid;
        }
        return false;
}

static int refuse(pid_t pid, const struct lazy_record_info *info, struct st_error **err) {
        st_error_set(err, EUCLEAN, "the memory of process %d is not whole: what was reading it from %s has died", pid,
                     info->image);
        st_error_hint(err, "end it, and restore it again");
        return -EUCLEAN;
}

/** Waits until a record is gone. */
static int wait_for(struct st_dump *dump, const char *path, struct st_error **err) {
        int64_t limit = st_arguments_int(st_operation_config(dump->operation), "Restore.LazyTimeout");
        struct pollfd cancel = { .fd = st_operation_cancel_fd(dump->operation), .events = POLLIN };
        uint64_t done = UINT64_MAX, since = clock_ms();

        for (;;) {
                struct lazy_record_info info;
                int r = lazy_record_read(path, &info);

                if (r == -ENOENT)
                        return 0;
                if (r < 0)
                        return st_error_errno(err, r, "cannot read %s", path);
                if (info.done != done) {
                        done = info.done;
                        since = clock_ms();
                }
                st_operation_progress(dump->operation, "waiting for memory", info.done * 4096, info.total * 4096);
                if (!info.served)
                        /* Who held the lock may just have removed it. */
                        r = access(path, F_OK) < 0 ? 0 : refuse(dump->pid, &info, err);
                else if (clock_ms() - since > (uint64_t)(limit > 0 ? limit : 0) * 1000) {
                        r = st_error_set(err, EBUSY,
                                         "the memory of process %d is still coming from %s, %llu of %llu MiB",
                                         dump->pid, info.image, (unsigned long long)info.done / 256,
                                         (unsigned long long)info.total / 256);
                        st_error_hint(err, "try again later; Restore.LazyTimeout says how long a dump waits");
                }
                bool over = !info.served;

                lazy_record_info_clear(&info);
                if (r < 0 || over)
                        return r;
                if (poll(&cancel, 1, STEP_MS) > 0)
                        return st_operation_check_cancelled(dump->operation, err) ?: -ECANCELED;
        }
}

static int look_at(struct st_dump *dump, const char *path, const struct tree *tree, struct st_error **err) {
        struct lazy_record_info info;
        bool mine, served, alive;

        if (lazy_record_read(path, &info) < 0)
                return 0;
        mine = concerns(&info, tree);
        served = info.served;
        alive = lazy_record_is_alive(&info);
        lazy_record_info_clear(&info);
        if (mine) {
                st_log_info("the memory of process %d is still coming: waiting for it", dump->pid);
                return wait_for(dump, path, err);
        }
        if (!served && !alive) /* left by a kill of all who knew of it */
                (void)unlink(path);
        return 0;
}

int dump_lazy(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        char **paths = lazy_record_list();
        _cleanup_tree_ struct tree tree = { 0 };
        int r = 0;

        if (paths && dump->pid > 0 && tree_read(dump->pid, true, &tree, NULL) >= 0)
                for (char **p = paths; *p && r >= 0; p++)
                        r = look_at(dump, *p, &tree, err);
        for (char **p = paths; p && *p; p++)
                free(*p);
        free(paths);
        return r < 0 ? r : st_dump_proceed(next, dump, err);
}
