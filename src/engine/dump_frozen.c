/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Targets that are frozen or stopped already are dumped so, and stay so.
 *
 * Of a target in a frozen cgroup CRIU must be told so (--freeze-cgroup), or it waits in vain for it to stop; it then
 * thaws the cgroup while it holds all its threads by ptrace, and freezes it before it lets go. Of several cgroups
 * around the target that are frozen it can do that with one: the outermost. The others are thawed meanwhile, which
 * nobody notices: the outermost holds them. Stopped processes need nothing: CRIU saves and keeps their state. Which of
 * them are to run after a restore, because it was us who stopped them, is noted.
 */

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/path.h"
#include "base/text.h"
#include "engine/dump_context.h"
#include "engine/frozen.h"
#include "process/freezer.h"
#include "process/idmap.h"
#include "process/parse.h"
#include "process/tree.h"

/* After a dump the kernel takes a moment to freeze a cgroup again. */
#define REFREEZE_MS 5000

struct keeping {
        struct dump_context *context;
        struct frozen_list records;
        enum freezer_version version; /* of the cgroups; 0: the target is in none that is frozen */
        char *cgroup;                 /* the outermost frozen one */
        struct strv inner;            /* further frozen ones, below it */
};

static bool is_task(const struct process_analysis *analysis, pid_t pid) {
        for (size_t i = 0; i < analysis->n_tasks; i++)
                if (analysis->tasks[i].pid == pid)
                        return true;
        return false;
}

/**
 * Nobody may unfreeze what the target was frozen with while it is dumped. Of records of processes inside the tree and
 * above it the locks are held already; here those are left that have come from elsewhere, or whose root has ended.
 */
static int lock_records(struct keeping *keeping, struct st_error **err) {
        struct dump_context *context = keeping->context;
        const struct process_analysis *analysis = context->analysis;
        int r = 0;

        frozen_load(&keeping->records);
        for (size_t i = 0; i < keeping->records.n && r >= 0; i++) {
                const struct frozen *record = keeping->records.items[i];

                for (size_t k = 0; k < analysis->n_tasks && r >= 0 && !is_task(analysis, record->pid); k++)
                        if (stopped_find(&record->tasks, analysis->tasks[k].pid, analysis->tasks[k].start_time)) {
                                r = tree_lock_share(context->dump.operation, "dump", record->pid, &context->lock, err);
                                break;
                        }
        }
        if (r < 0)
                return r;
        /* What was unfrozen while we waited is so no longer. */
        frozen_list_clear(&keeping->records);
        frozen_load(&keeping->records);
        return 0;
}

static bool is_ours(const struct frozen_list *records, const struct process_task *task) {
        for (size_t i = 0; i < records->n; i++) {
                const struct stopped_task *stopped =
                        stopped_find(&records->items[i]->tasks, task->pid, task->start_time);
                if (stopped && stopped->ours)
                        return true;
        }
        return false;
}

/** Notes whom a restore is to continue: by the PIDs that they see themselves, which are what is restored. */
static void note_stopped_by_us(const struct keeping *keeping) {
        struct process_analysis *analysis = keeping->context->analysis;

        for (size_t i = 0; i < analysis->n_tasks; i++) {
                struct process_task *task = &analysis->tasks[i];

                if (is_ours(&keeping->records, task) && stopper_stands(task->pid, task->start_time))
                        task->stopped_by_us = stopper_own_pid(task->pid);
        }
}

/** The cgroups from a task's own up to, not including, the outermost that are frozen by themselves. */
static void add_inner(struct keeping *keeping, const char *directory) {
        _cleanup_free_ char *at = xstrdup(directory);

        while (!streq(at, keeping->cgroup)) {
                if (freezer_is_frozen_itself(keeping->version, at) > 0 && !strv_has(&keeping->inner, at))
                        strv_add(&keeping->inner, at);
                char *above = path_directory(at);
                free(at);
                at = above;
        }
}

static int is_partly_frozen(pid_t frozen, const char *cgroup, pid_t other, pid_t root, struct st_error **err) {
        st_error_set(err, EBUSY, "process %d is in the frozen cgroup %s, but process %d is not", frozen, cgroup, other);
        st_error_hint(err, "unfreeze it, or freeze all of it: 'stasis freeze process %d'", root);
        return -EBUSY;
}

/**
 * Finds the frozen cgroups of one hierarchy around the target.
 *
 * @return 0, or -EBUSY with err: only a part of it is frozen
 */
static int find_cgroups(struct keeping *keeping, const struct freezer_hierarchy *hierarchy, struct st_error **err) {
        const struct process_analysis *analysis = keeping->context->analysis;
        _cleanup_free_ char *outermost = NULL, *last = NULL;
        pid_t frozen = 0, running = 0;

        for (size_t i = 0; i < analysis->n_tasks && hierarchy->n > 0; i++) {
                const struct process_task *task = &analysis->tasks[i];
                _cleanup_free_ char *path = NULL, *directory = NULL, *cgroup = NULL;

                if (freezer_path_of(task->pid, hierarchy->version, &path) < 0 || (last && streq(path, last)))
                        continue;
                free(last);
                last = TAKE_PTR(path);
                if (freezer_directory(hierarchy, last, &directory) < 0 ||
                    freezer_outermost(hierarchy->version, directory, &cgroup) < 0) {
                        running = task->pid;
                } else if (!outermost) {
                        outermost = TAKE_PTR(cgroup);
                        frozen = task->pid;
                } else if (!streq(outermost, cgroup))
                        return is_partly_frozen(frozen, outermost, task->pid, keeping->context->dump.pid, err);
                if (outermost && running)
                        return is_partly_frozen(frozen, outermost, running, keeping->context->dump.pid, err);
                if (outermost) {
                        keeping->version = hierarchy->version;
                        free(keeping->cgroup);
                        keeping->cgroup = xstrdup(outermost);
                        add_inner(keeping, directory);
                }
        }
        return 0;
}

/** With --stop CRIU leaves the cgroup thawed: somebody else in it would run. */
static int check_others(const struct keeping *keeping, struct st_error **err) {
        const struct process_analysis *analysis = keeping->context->analysis;
        _cleanup_idmap_ struct idmap inside = { 0 };
        _cleanup_free_ pid_t *pids = NULL;
        size_t n;
        int r;

        if (!keeping->context->dump.stop)
                return 0;
        r = freezer_members(keeping->cgroup, &pids, &n);
        if (r < 0)
                return st_error_errno(err, r, "cannot tell who is in the frozen cgroup %s", keeping->cgroup);
        for (size_t i = 0; i < analysis->n_tasks; i++)
                idmap_put(&inside, (uint64_t)analysis->tasks[i].pid, i);
        for (size_t i = 0; i < n; i++)
                if (pids[i] <= 0 || !idmap_get(&inside, (uint64_t)pids[i])) {
                        st_error_set(err, EBUSY,
                                     "its frozen cgroup %s also holds process %d, which would run on after the end of "
                                     "the target",
                                     keeping->cgroup, pids[i]);
                        st_error_hint(err, "unfreeze it first, or leave out --stop");
                        return -EBUSY;
                }
        return 0;
}

/** CRIU would wait for it for 10 s, in vain. */
static int check_vfork(const struct keeping *keeping, struct st_error **err) {
        const struct process_analysis *analysis = keeping->context->analysis;
        pid_t parent = tree_find_vfork(analysis->tasks, analysis->n_tasks);

        if (parent == 0)
                return 0;
        st_error_set(err, EBUSY, "process %d was frozen while it waits for a child that it made by vfork()", parent);
        st_error_hint(err, "unfreeze it, and freeze it by 'stasis freeze process %d', which avoids that",
                      keeping->context->dump.pid);
        return -EBUSY;
}

static int prepare_cgroups(struct keeping *keeping, struct st_error **err) {
        Criu__CriuOpts *criu = keeping->context->dump.criu;
        int r = 0;

        if (!isempty(criu->freeze_cgroup)) /* the caller knows better */
                return 0;
        for (enum freezer_version version = FREEZER_V1; version <= FREEZER_V2 && r >= 0; version++) {
                _cleanup_hierarchy_ struct freezer_hierarchy hierarchy = { 0 };

                freezer_hierarchy_load(version, &hierarchy);
                if (keeping->cgroup) {
                        if (freezer_holds(&hierarchy, keeping->context->dump.pid))
                                return st_error_set(err, EBUSY,
                                                    "it is frozen by cgroups of both versions: unfreeze one of them");
                } else
                        r = find_cgroups(keeping, &hierarchy, err);
        }
        if (r >= 0 && keeping->cgroup)
                r = check_others(keeping, err);
        if (r >= 0 && keeping->cgroup)
                r = check_vfork(keeping, err);
        if (r < 0 || !keeping->cgroup)
                return r;
        st_log_info("process %d is in the frozen cgroup %s, and stays so", keeping->context->dump.pid, keeping->cgroup);
        message_set_string(&criu->freeze_cgroup, keeping->cgroup);
        for (size_t i = 0; i < keeping->inner.n; i++)
                (void)freezer_set(keeping->version, keeping->inner.items[i], false);
        return 0;
}

/** As it was before, if there is still somebody: CRIU has done it, unless it was killed. */
static void freeze_again(const struct keeping *keeping) {
        const struct process_analysis *analysis = keeping->context->analysis;
        bool alive = false;

        for (size_t i = 0; i < analysis->n_tasks && !alive; i++)
                alive = proc_is_alive(analysis->tasks[i].pid, analysis->tasks[i].start_time);
        if (!keeping->cgroup || !alive)
                return;
        if (freezer_freeze(keeping->version, keeping->cgroup, REFREEZE_MS, -1) < 0)
                st_log_warning("the cgroup %s could not be frozen again", keeping->cgroup);
        for (size_t i = 0; i < keeping->inner.n; i++)
                (void)freezer_set(keeping->version, keeping->inner.items[i], true);
}

int dump_lock_tree(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct tree_lock *lock = &dump_context(dump)->lock;
        int r = dump->pid > 0 ? tree_lock_take(dump->operation, "dump", dump->pid, lock, err) : 0;

        if (r < 0)
                st_error_wrap(err, "cannot dump process %d", dump->pid);
        else
                r = st_dump_proceed(next, dump, err);
        tree_lock_release(lock);
        return r;
}

int dump_keep_frozen(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct keeping keeping = { .context = dump_context(dump) };
        int r = lock_records(&keeping, err);

        if (r >= 0) {
                note_stopped_by_us(&keeping);
                r = prepare_cgroups(&keeping, err);
        }
        if (r >= 0) {
                r = st_dump_proceed(next, dump, err);
                freeze_again(&keeping);
        }
        /* Records of a target that has ended are of no more use. */
        frozen_list_clear(&keeping.records);
        frozen_load(&keeping.records);
        frozen_list_clear(&keeping.records);
        free(keeping.cgroup);
        strv_clear(&keeping.inner);
        return r;
}
