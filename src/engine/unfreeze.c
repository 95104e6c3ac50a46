/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Unfreezing a process tree: by the record of what was frozen. Without a record, and only when forced, whatever holds
 * the tree is undone, as long as that concerns nobody else.
 */

#include <signal.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "engine/dump_context.h"
#include "engine/freeze_context.h"
#include "process/proc.h"

static size_t count_alive(const struct stopped *tasks) {
        size_t n = 0;

        for (size_t i = 0; i < tasks->n; i++)
                n += proc_is_alive(tasks->tasks[i].pid, tasks->tasks[i].start_time);
        return n;
}

static int unfreeze_recorded(struct st_dump *dump, const struct frozen *record, struct st_error **err) {
        _cleanup_free_ char *above = NULL;
        size_t alive = count_alive(&record->tasks);
        int r = freeze_check_access(dump->operation, &record->tasks, err);

        if (r >= 0)
                r = frozen_undo(record, err);
        if (r < 0)
                return r;
        frozen_remove(record);
        if (alive < record->tasks.n)
                st_dump_message(dump, "%zu of %zu processes had ended meanwhile", record->tasks.n - alive,
                                record->tasks.n);
        if (record->cgroup && freezer_outermost(record->version, record->cgroup, &above) >= 0)
                st_dump_message(dump, "process %d stays frozen: so is the cgroup %s above it", dump->pid, above);
        freeze_fill_state(dump);
        return 0;
}

/** What holds a tree that stasis has no record of. */
struct hold {
        struct st_dump *dump;
        bool force;
        size_t undone;
};

static int thaw_one(struct hold *hold, enum freezer_version version, const char *cgroup, struct st_error **err) {
        pid_t other = 0;
        int r;

        if (!hold->force) {
                st_error_set(err, EBUSY, "it was not frozen by stasis: its cgroup %s is frozen", cgroup);
                st_error_hint(err, "unfreeze it as it was frozen, or use --force");
                return -EBUSY;
        }
        r = freeze_cgroup_is_of_tree(cgroup, &freeze_context(hold->dump)->tree, &other);
        if (r == 0) {
                st_error_set(err, EBUSY, "its frozen cgroup %s also holds process %d, which is not of the tree", cgroup,
                             other);
                st_error_hint(err, "unfreeze it as it was frozen");
                return -EBUSY;
        }
        if (r >= 0)
                r = freezer_set(version, cgroup, false);
        if (r < 0)
                return st_error_errno(err, r, "cannot thaw the cgroup %s", cgroup);
        st_dump_message(hold->dump, "the cgroup %s was thawed", cgroup);
        hold->undone++;
        return 0;
}

/** Thaws every cgroup that holds a process, from the outermost inwards. */
static int thaw_around(struct hold *hold, const struct freezer_hierarchy *hierarchy, pid_t pid, struct st_error **err) {
        _cleanup_free_ char *path = NULL, *directory = NULL;

        if (hierarchy->n == 0 || freezer_path_of(pid, hierarchy->version, &path) < 0 ||
            freezer_directory(hierarchy, path, &directory) < 0)
                return 0;
        for (;;) {
                _cleanup_free_ char *cgroup = NULL;
                int r;

                if (freezer_outermost(hierarchy->version, directory, &cgroup) < 0)
                        return 0;
                r = thaw_one(hold, hierarchy->version, cgroup, err);
                if (r < 0)
                        return r;
        }
}

static int continue_stopped(struct hold *hold, struct st_error **err) {
        const struct tree *tree = &freeze_context(hold->dump)->tree;
        size_t n = 0;

        for (size_t i = tree->n; i > 0; i--) { /* children before their parents */
                const struct process_task *task = &tree->tasks[i - 1];

                if (!stopper_stands(task->pid, task->start_time))
                        continue;
                if (!hold->force) {
                        st_error_set(err, EBUSY, "process %d (%s) is stopped, but not by stasis", task->pid,
                                     task->command);
                        st_error_hint(err, "continue it by 'kill -CONT %d' or in its shell, or use --force", task->pid);
                        return -EBUSY;
                }
                n += stopper_signal(task->pid, task->start_time, SIGCONT) == 0;
        }
        if (n > 0)
                st_dump_message(hold->dump, "%zu process%s continued", n, n == 1 ? " was" : "es were");
        hold->undone += n;
        return 0;
}

static int unfreeze_unknown(struct st_dump *dump, struct st_error **err) {
        struct freeze_context *context = freeze_context(dump);
        struct hold hold = { .dump = dump, .force = dump->req->has_force && dump->req->force };
        const struct frozen *with;
        int r = tree_read(dump->pid, true, &context->tree, err);

        if (r >= 0)
                r = freeze_check_tree_access(dump->operation, &context->tree, err);
        if (r < 0)
                return r;
        with = frozen_find_member(&context->records, dump->pid, context->tree.tasks[0].start_time);
        if (with) {
                st_error_set(err, EBUSY, "it was frozen with process %d", with->pid);
                st_error_hint(err, "unfreeze process %d", with->pid);
                return -EBUSY;
        }
        for (size_t i = 0; i < 2 && r >= 0; i++)
                for (size_t k = 0; k < context->tree.n && r >= 0; k++)
                        r = thaw_around(&hold, &context->freezers[i], context->tree.tasks[k].pid, err);
        if (r >= 0)
                r = continue_stopped(&hold, err);
        if (r < 0)
                return r;
        if (hold.undone == 0)
                st_dump_message(dump, "process %d is not frozen: there was nothing to do", dump->pid);
        freeze_fill_state(dump);
        return 0;
}

int unfreeze_process(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        const struct frozen *record = frozen_find(&freeze_context(dump)->records, dump->pid);

        (void)next;
        return record ? unfreeze_recorded(dump, record, err) : unfreeze_unknown(dump, err);
}
