/* SPDX-License-Identifier: Apache-2.0 */
#include "process/tree_kill.h"

#include <signal.h>
#include <sys/pidfd.h>

#include "base/cleanup.h"
#include "process/idmap.h"
#include "process/proc.h"
#include "process/tree.h"

/* Who is asked to die and forks once more is found by the next pass; a parent that is dying forks no more. */
#define PASSES_MAX 16

/** @return false: it was dead before */
static bool kill_task(pid_t pid, uint64_t start_time) {
        _cleanup_close_ int pidfd = pidfd_open(pid, 0);

        /* Asked after it was opened: from here on the descriptor is that process, and no later one of its number. */
        return pidfd >= 0 && proc_is_alive(pid, start_time) && !proc_is_being_killed(pid) &&
               pidfd_send_signal(pidfd, SIGKILL, NULL, 0) >= 0;
}

size_t tree_kill(pid_t root, uint64_t start_time, bool itself) {
        _cleanup_idmap_ struct idmap seen = { 0 };
        size_t killed = 0;

        for (int pass = 0; pass < PASSES_MAX; pass++) {
                _cleanup_tree_ struct tree tree = { 0 };
                bool news = false;

                if (!proc_is_alive(root, start_time) || tree_read(root, true, &tree, NULL) < 0)
                        break;
                for (size_t i = 0; i < tree.n; i++) {
                        const struct process_task *task = &tree.tasks[i];

                        if ((task->pid == root && !itself) || !idmap_put(&seen, (uint64_t)task->pid, i))
                                continue;
                        news = true;
                        killed += kill_task(task->pid, task->start_time);
                }
                if (!news)
                        break;
        }
        return killed;
}
