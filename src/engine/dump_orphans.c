/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The adapter of the dump that looks for what a job has left outside its tree. A process whose parent has ended comes
 * to the job's supervisor; CRIU dumps the tree of the root, so it would leave that process out without a word.
 */

#include <errno.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "engine/dump_context.h"
#include "engine/operation.h"
#include "process/idmap.h"
#include "process/proc.h"
#include "process/tree.h"
#include "supervisor/status.h"

/* More are not named: they would fill the screen. */
#define NAMED_MAX 5

/** The living descendants of the supervisor that are not in the tree. */
static size_t name_orphans(const struct process_analysis *analysis, const struct tree *tree, pid_t supervisor,
                           struct strv *ret) {
        _cleanup_idmap_ struct idmap inside = { 0 };
        size_t n = 0;

        for (size_t i = 0; i < analysis->n_tasks; i++)
                idmap_put(&inside, (uint64_t)analysis->tasks[i].pid, i);
        for (size_t i = 0; i < tree->n; i++) {
                const struct process_task *task = &tree->tasks[i];

                if (task->pid == supervisor || tree_task_is_dead(task) || idmap_get(&inside, (uint64_t)task->pid))
                        continue;
                /* A child of the tree that came after it was read: CRIU reads it anew. */
                if (idmap_get(&inside, (uint64_t)task->ppid)) {
                        idmap_put(&inside, (uint64_t)task->pid, 0);
                        continue;
                }
                if (n++ < NAMED_MAX)
                        strv_addf(ret, "%d (%s)", (int)task->pid, task->command);
        }
        return n;
}

static int check(const struct st_dump *dump, const struct process_analysis *analysis, const char *record,
                 struct st_error **err) {
        _cleanup_tree_ struct tree tree = { 0 };
        _cleanup_strv_ struct strv names = { 0 };
        _cleanup_free_ char *list = NULL;
        struct supervisor_status status;
        size_t n;

        /* Without a supervisor nobody knows what was the job's. */
        if (supervisor_status_read(record, &status) < 0 || !proc_is_alive(status.supervisor, status.supervisor_start))
                return 0;
        if (status.exited)
                return st_error_set(err, ESRCH, "process %d of the job has ended already", dump->pid);
        if (tree_read(status.supervisor, true, &tree, NULL) < 0)
                return 0;
        n = name_orphans(analysis, &tree, status.supervisor, &names);
        if (n == 0)
                return 0;
        list = strv_join(&names, ", ");
        st_error_set(err, EBUSY, "the job has %zu process%s outside its tree, whose parent has ended: %s%s", n,
                     n == 1 ? "" : "es", list, n > NAMED_MAX ? ", …" : "");
        st_error_hint(err, "leave them out with --allow-orphans, or start such a job with --init");
        return -EBUSY;
}

int dump_orphans(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        const char *record = operation_job_record(dump->operation);
        int r = 0;

        if (record && !dump->req->alloworphans)
                r = check(dump, dump_context(dump)->analysis, record, err);
        return r < 0 ? r : st_dump_proceed(next, dump, err);
}
