/* SPDX-License-Identifier: Apache-2.0 */

/* What was stopped by us when it was dumped, runs after a restore; what somebody else had stopped, stays so. */

#include <signal.h>

#include <stasis/log.h>

#include "engine/restore_context.h"
#include "process/parse.h"
#include "process/stopper.h"
#include "process/tree.h"

static bool was_ours(const struct saved_state *saved, pid_t own_pid) {
        for (size_t i = 0; i < saved->n_stopped_by_us; i++)
                if (saved->stopped_by_us[i] == own_pid)
                        return true;
        return false;
}

static void continue_tree(const struct saved_state *saved, pid_t root) {
        _cleanup_tree_ struct tree tree = { 0 };

        if (tree_read(root, true, &tree, NULL) < 0)
                return;
        for (size_t i = tree.n; i > 0; i--) { /* children before their parents */
                const struct process_task *task = &tree.tasks[i - 1];

                if (was_ours(saved, stopper_own_pid(task->pid)) &&
                    stopper_signal(task->pid, task->start_time, SIGCONT) == 0)
                        st_log_debug("process %d was stopped by a freeze, and continues", task->pid);
        }
}

int restore_continue(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        const struct saved_state *saved = restore_context(restore)->saved;
        bool stay = restore->criu->has_leave_stopped && restore->criu->leave_stopped;
        int r = st_restore_proceed(next, restore, err);

        if (r >= 0 && saved && saved->n_stopped_by_us > 0 && !stay && restore->pid > 0)
                continue_tree(saved, restore->pid);
        return r;
}
