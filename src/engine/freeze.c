/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Freezing and unfreezing without a dump. A tree is frozen by its cgroup when that holds the tree and nobody else, by
 * signals otherwise. What was done is written down before it is done (frozen.h), so that it can be undone by anybody.
 */

#include <poll.h>
#include <time.h>

#include <stasis/features.h>
#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/chain.h"
#include "engine/dump_context.h"
#include "engine/engine.h"
#include "engine/freeze_context.h"
#include "engine/operation.h"
#include "engine/request.h"
#include "engine/tree_lock.h"
#include "process/analysis.h"
#include "process/idmap.h"
#include "process/parse.h"

/* Who forks meanwhile is nearer to the tree than that. */
#define ANCESTORS_LIMIT 64

/* A child made by vfork(2) starts its program, or ends, within that time; one that does not is frozen as it is. */
#define VFORK_ATTEMPTS 100
#define VFORK_STEP_MS 5

void freeze_fill_state(struct st_dump *dump) {
        Daemon__ProcessState *state = NULL;

        if (process_state_read(dump->pid, PROCESS_TREE, &state, NULL) < 0)
                return;
        message_freep(&dump->resp->state);
        dump->resp->state = dump->state = state;
}

static int check_owner(pid_t pid, uid_t uid, struct st_error **err) {
        _cleanup_close_ int proc_fd = proc_open(pid);
        _cleanup_status_ struct proc_status status = { 0 };

        if (proc_fd < 0 || proc_read_status_at(proc_fd, &status) < 0)
                return 0; /* gone */
        for (size_t i = 0; i < 3; i++)
                if (status.uids[i] != uid)
                        return st_error_set(err, EPERM, "process %d belongs to another user (UID %u)", (int)pid,
                                            (unsigned)status.uids[i]);
        return 0;
}

static bool may_all(const struct st_operation *operation) {
        return operation_privileged(operation) || st_operation_uid(operation) == 0;
}

int freeze_check_access(const struct st_operation *operation, const struct stopped *tasks, struct st_error **err) {
        int r = 0;

        for (size_t i = 0; i < tasks->n && r >= 0 && !may_all(operation); i++)
                r = check_owner(tasks->tasks[i].pid, st_operation_uid(operation), err);
        return r;
}

int freeze_check_tree_access(const struct st_operation *operation, const struct tree *tree, struct st_error **err) {
        int r = 0;

        for (size_t i = 0; i < tree->n && r >= 0 && !may_all(operation); i++)
                r = check_owner(tree->tasks[i].pid, st_operation_uid(operation), err);
        return r;
}

/** Is a process one of the tree, or dead? Of those that the tree was read without, the parents tell. */
static bool is_of_tree(const struct idmap *inside, pid_t pid) {
        struct proc_stat stat;

        for (unsigned depth = 0; pid > 1 && depth < ANCESTORS_LIMIT; depth++) {
                if (idmap_get(inside, (uint64_t)pid))
                        return true;
                if (proc_read_stat(pid, &stat) < 0 || proc_stat_is_dead(&stat))
                        return depth == 0;
                pid = stat.ppid;
        }
        return false;
}

int freeze_cgroup_is_of_tree(const char *directory, const struct tree *tree, pid_t *ret_other) {
        _cleanup_idmap_ struct idmap inside = { 0 };
        _cleanup_free_ pid_t *pids = NULL;
        size_t n;
        int r = freezer_members(directory, &pids, &n);

        if (r < 0)
                return r;
        for (size_t i = 0; i < tree->n; i++)
                idmap_put(&inside, (uint64_t)tree->tasks[i].pid, i);
        for (size_t i = 0; i < n; i++) {
                if (is_of_tree(&inside, pids[i]))
                        continue;
                if (ret_other)
                        *ret_other = pids[i];
                return 0;
        }
        return 1;
}

static int validate(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        if (!isempty(dump->req->gpufreezetype))
                return st_error_set(err, EOPNOTSUPP, "GPUFreezeType: GPUs are not supported");
        return st_dump_proceed(next, dump, err);
}

/** One at a time freezes or unfreezes a tree, and none while it is dumped. */
static int lock(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct freeze_context *context = freeze_context(dump);
        _cleanup_tree_lock_ struct tree_lock lock = { 0 };
        int r = tree_lock_take(dump->operation, context->verb, dump->pid, &lock, err);

        if (r < 0)
                return r;
        frozen_load(&context->records);
        return st_dump_proceed(next, dump, err);
}

/** Refuses what cannot be frozen, or must not be. */
static int examine(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct tree *tree = &freeze_context(dump)->tree;
        int r = tree_read(dump->pid, true, tree, err);

        if (r < 0)
                return r;
        if (tree->kernel_thread)
                return st_error_set(err, EINVAL, "it is a kernel thread (%s)", tree->tasks[0].command);
        if (tree_task_is_dead(&tree->tasks[0]))
                return st_error_set(err, ESRCH, "process %d (%s) has ended already: it is a zombie", dump->pid,
                                    tree->tasks[0].command);
        for (size_t i = 0; i < tree->n; i++)
                if (tree->tasks[i].pid == getpid() || tree->tasks[i].pid == operation_client(dump->operation))
                        return st_error_set(err, EINVAL, "it is stasis itself, or an ancestor of it");
        r = freeze_check_tree_access(dump->operation, tree, err);
        return r < 0 ? r : st_dump_proceed(next, dump, err);
}

static struct frozen new_record(const struct freeze_context *context) {
        return (struct frozen){
                .pid = context->dump.pid,
                .start_time = context->tree.tasks[0].start_time,
                .uid = st_operation_uid(context->dump.operation),
                .client = operation_client(context->dump.operation),
                .time = time(NULL),
        };
}

/** The path of the lowest cgroup that all of a tree are in, with all their threads. @return 0 or -ENOENT */
static int common_cgroup(const struct tree *tree, enum freezer_version version, char **ret) {
        _cleanup_free_ char *common = NULL;

        for (size_t i = 0; i < tree->n; i++) {
                _cleanup_free_ char *path = NULL, *both = NULL;
                int r = tree_task_is_dead(&tree->tasks[i]) ? -ESRCH
                                                           : freezer_path_of(tree->tasks[i].pid, version, &path);

                if (r == -ESRCH)
                        continue;
                if (r < 0)
                        return -ENOENT;
                both = common ? freezer_path_common(common, path) : TAKE_PTR(path);
                free(common);
                common = TAKE_PTR(both);
        }
        if (!common)
                return -ENOENT;
        for (size_t i = 0; i < tree->n; i++)
                if (tree->tasks[i].threads > 1 && !freezer_holds_threads(tree->tasks[i].pid, version, common))
                        return -ENOENT;
        *ret = TAKE_PTR(common);
        return 0;
}

/** Is the whole tree in the cgroup, as it is now, and nobody else? Takes over the tree as it is now. */
static bool still_fits(struct freeze_context *context, const struct frozen *record, const char *path) {
        _cleanup_tree_ struct tree tree = { 0 };
        _cleanup_free_ char *common = NULL;

        if (tree_read(record->pid, true, &tree, NULL) < 0 || common_cgroup(&tree, record->version, &common) < 0 ||
            !freezer_path_is_within(common, path) || freeze_cgroup_is_of_tree(record->cgroup, &tree, NULL) <= 0)
                return false;
        tree_clear(&context->tree);
        context->tree = tree;
        tree = (struct tree){ 0 };
        return true;
}

static void record_tree(struct frozen *record, const struct tree *tree) {
        stopped_clear(&record->tasks);
        for (size_t i = 0; i < tree->n; i++)
                if (!tree_task_is_dead(&tree->tasks[i]))
                        stopped_add(&record->tasks, tree->tasks[i].pid, tree->tasks[i].start_time, false);
}

/** Freezes the cgroup of a record. @return 0; -ENOENT: it does not fit after all; else -errno with err */
static int freeze_recorded(struct freeze_context *context, struct frozen *record, const char *path,
                           struct st_error **err) {
        struct st_operation *operation = context->dump.operation;
        int r = frozen_save(record, err);
        bool fits = false;

        if (r < 0)
                return r;
        for (int i = 0; i < VFORK_ATTEMPTS; i++) {
                r = freezer_freeze(record->version, record->cgroup, FREEZE_TIMEOUT_MS,
                                   st_operation_cancel_fd(operation));
                fits = r >= 0 && still_fits(context, record, path);
                if (!fits || tree_find_vfork(context->tree.tasks, context->tree.n) == 0 || i + 1 == VFORK_ATTEMPTS)
                        break;
                /* It could not be dumped so: its child may run a moment longer. */
                (void)freezer_set(record->version, record->cgroup, false);
                (void)poll(NULL, 0, VFORK_STEP_MS);
        }
        if (r >= 0 && fits) {
                record->complete = true;
                record_tree(record, &context->tree);
                r = frozen_save(record, err);
                if (r >= 0)
                        return 0;
        } else if (r >= 0)
                r = -ENOENT;
        (void)freezer_set(record->version, record->cgroup, false);
        frozen_remove(record);

        if (r == -ECANCELED)
                return st_operation_check_cancelled(operation, err) ?: st_error_set(err, ECANCELED, "cancelled");
        if (r == -ETIMEDOUT) {
                st_error_set(err, ETIMEDOUT, "its cgroup %s did not freeze within %d s", record->cgroup,
                             FREEZE_TIMEOUT_MS / 1000);
                st_error_hint(err, "a process in it waits for a disk or a network file system: try again later");
        }
        return err && *err ? r : -ENOENT;
}

/** @return 0; -ENOENT: the cgroups of that version do not fit; else -errno with err */
static int freeze_by_cgroup(struct freeze_context *context, const struct freezer_hierarchy *hierarchy,
                            struct st_error **err) {
        _cleanup_free_ char *path = NULL, *directory = NULL;
        struct frozen record = new_record(context);
        pid_t other = 0;
        int r;

        if (common_cgroup(&context->tree, hierarchy->version, &path) < 0 ||
            freezer_directory(hierarchy, path, &directory) < 0)
                return -ENOENT;
        r = freeze_cgroup_is_of_tree(directory, &context->tree, &other);
        if (r <= 0) {
                st_log_debug("process %d is not frozen by its cgroup %s: that holds process %d, too", record.pid,
                             directory, other);
                return -ENOENT;
        }
        record.version = hierarchy->version;
        record.cgroup = directory;
        record_tree(&record, &context->tree);
        r = freeze_recorded(context, &record, path, err);
        if (r >= 0)
                st_dump_message(&context->dump, "%zu process%s frozen, by the cgroup %s", record.tasks.n,
                                record.tasks.n == 1 ? "" : "es", directory);
        stopped_clear(&record.tasks);
        return r;
}

struct signalling {
        struct freeze_context *context;
        struct frozen *record;
};

/** Before further processes are stopped: may the caller, and how are they found again? */
static int note_stopped(const struct stopped *stopped, void *userdata, struct st_error **err) {
        const struct signalling *signalling = userdata;
        struct frozen record = *signalling->record;
        int r = freeze_check_access(signalling->context->dump.operation, stopped, err);

        if (r < 0)
                return r;
        record.tasks = *stopped;
        return frozen_save(&record, err);
}

static size_t count_ours(const struct stopped *stopped) {
        size_t n = 0;

        for (size_t i = 0; i < stopped->n; i++)
                n += stopped->tasks[i].ours;
        return n;
}

static int freeze_by_signals(struct freeze_context *context, const struct frozen *before, struct st_error **err) {
        struct frozen record = new_record(context);
        struct signalling signalling = { context, &record };
        const struct stopper options = {
                .timeout_ms = FREEZE_TIMEOUT_MS,
                .cancel_fd = st_operation_cancel_fd(context->dump.operation),
                .record = note_stopped,
                .userdata = &signalling,
        };
        size_t ours;
        int r = stopper_stop(record.pid, &options, before ? &before->tasks : NULL, &record.tasks, err);

        if (r == -ECANCELED && err)
                *err = st_error_free(*err);
        if (r == -ECANCELED)
                r = st_operation_check_cancelled(context->dump.operation, err) ?: st_error_set(err, -r, "cancelled");
        ours = count_ours(&record.tasks);
        if (r >= 0 && ours > 0) {
                record.complete = true;
                r = frozen_save(&record, err);
                if (r < 0)
                        (void)stopper_continue(&record.tasks);
        }
        if (r < 0 || ours == 0)
                frozen_remove(&record);
        if (r >= 0 && ours == 0)
                st_dump_message(&context->dump, "process %d is stopped already, not by stasis: it is left so",
                                record.pid);
        else if (r >= 0)
                st_dump_message(&context->dump, "%zu process%s stopped, by signals%s", ours, ours == 1 ? "" : "es",
                                ours < record.tasks.n ? "; others were stopped before" : "");
        stopped_clear(&record.tasks);
        return r;
}

/** Does a frozen cgroup hold the whole tree already? */
static bool is_held(const struct freeze_context *context) {
        const struct tree *tree = &context->tree;

        for (size_t i = 0; i < tree->n; i++)
                if (!tree_task_is_dead(&tree->tasks[i]) && !freezer_holds(&context->freezers[0], tree->tasks[i].pid) &&
                    !freezer_holds(&context->freezers[1], tree->tasks[i].pid))
                        return false;
        return true;
}

static int freeze_process(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        struct freeze_context *context = freeze_context(dump);
        const struct frozen *before = frozen_find(&context->records, dump->pid);
        int r;

        (void)next;
        if (before && before->start_time != context->tree.tasks[0].start_time)
                before = NULL; /* the number was somebody else's */
        if (before && !before->complete) {
                st_log_warning("process %d was left half frozen: that is undone first", dump->pid);
                r = frozen_undo(before, err);
                if (r < 0)
                        return r;
                frozen_remove(before);
                before = NULL;
        }
        if (before && frozen_holds(before)) {
                st_dump_message(dump, "process %d is frozen already", dump->pid);
                freeze_fill_state(dump);
                return 0;
        }
        if (is_held(context)) {
                const struct frozen *with =
                        frozen_find_member(&context->records, dump->pid, context->tree.tasks[0].start_time);
                if (with)
                        st_dump_message(dump, "process %d is frozen already, with process %d", dump->pid, with->pid);
                else
                        st_dump_message(dump, "process %d is frozen already, by its cgroup, not by stasis", dump->pid);
                freeze_fill_state(dump);
                return 0;
        }
        r = freeze_by_cgroup(context, &context->freezers[0], err);
        if (r == -ENOENT)
                r = freeze_by_cgroup(context, &context->freezers[1], err);
        if (r == -ENOENT)
                r = freeze_by_signals(context, before, err);
        if (r >= 0)
                freeze_fill_state(dump);
        return r;
}

static int call_freezer(const char *plugin, const void *value, void *userdata, struct st_error **err) {
        const struct st_freezer *freezer = value;
        struct st_dump *dump = userdata;

        (void)plugin;
        return freezer->run(dump->operation, dump->req, dump->resp, err);
}

static int freeze_by_plugin(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        (void)next;
        return feature_if_available(freeze_handler, call_freezer, dump, err, dump->req->type);
}

static int unfreeze_by_plugin(struct st_dump *dump, struct st_dump_next *next, struct st_error **err) {
        (void)next;
        return feature_if_available(unfreeze_handler, call_freezer, dump, err, dump->req->type);
}

/* The chains, outermost first: of the built-in type, and of those that plugins bring. */
static const struct st_dump_adapter freeze_steps[] = {
        { "validate", validate }, { "find PID", dump_find_pid }, { "lock", lock },
        { "examine", examine },   { "freeze", freeze_process },  { 0 },
};

static const struct st_dump_adapter unfreeze_steps[] = {
        { "validate", validate },
        { "find PID", dump_find_pid },
        { "lock", lock },
        { "unfreeze", unfreeze_process },
        { 0 },
};

static const struct st_dump_adapter freeze_plugin_steps[] = {
        { "validate", validate },
        { "freeze", freeze_by_plugin },
        { 0 },
};

static const struct st_dump_adapter unfreeze_plugin_steps[] = {
        { "validate", validate },
        { "unfreeze", unfreeze_by_plugin },
        { 0 },
};

static int run_steps(struct st_operation *operation, const struct st_dump_adapter *steps, const char *verb,
                     Daemon__DumpReq *req, Daemon__DumpResp *resp, struct st_error **err) {
        struct freeze_context context = {
                .verb = verb,
                .dump = { .size = sizeof(struct st_dump), .operation = operation, .req = req, .resp = resp },
        };
        struct chain chain = { .operation = operation };
        int r = 0;

        if (!req->criu)
                req->criu = message_new(&criu__criu_opts__descriptor);
        context.dump.criu = req->criu;
        freezer_hierarchy_load(FREEZER_V1, &context.freezers[0]);
        freezer_hierarchy_load(FREEZER_V2, &context.freezers[1]);
        for (; steps->run && r >= 0; steps++)
                r = chain_add_dump(&chain, NULL, steps, err);
        if (r >= 0)
                r = chain_run_dump(&chain, &context.dump, err);

        tree_clear(&context.tree);
        frozen_list_clear(&context.records);
        freezer_hierarchy_clear(&context.freezers[0]);
        freezer_hierarchy_clear(&context.freezers[1]);
        return r;
}

static int run(struct st_operation *operation, bool freeze, Daemon__DumpReq *req, Daemon__DumpResp *resp,
               struct st_error **err) {
        const Daemon__Process *process = req->details ? req->details->process : NULL;
        const char *verb = freeze ? "freeze" : "unfreeze";
        int r;

        if (!req->type)
                req->type = xstrdup("process");
        if (streq(req->type, "process"))
                r = run_steps(operation, freeze ? freeze_steps : unfreeze_steps, verb, req, resp, err);
        else
                r = run_steps(operation, freeze ? freeze_plugin_steps : unfreeze_plugin_steps, verb, req, resp, err);
        if (r < 0 && process && process->has_pid)
                return st_error_wrap(err, "cannot %s process %u", verb, process->pid);
        if (r < 0) {
                _cleanup_free_ char *id = request_target_id(req->details);

                return st_error_wrap(err, "cannot %s the %s%s%s", verb, req->type, id ? " " : "", id ? id : "");
        }
        return r;
}

int engine_freeze(struct st_operation *operation, Daemon__DumpReq *req, Daemon__DumpResp *resp, struct st_error **err) {
        return run(operation, true, req, resp, err);
}

int engine_unfreeze(struct st_operation *operation, Daemon__DumpReq *req, Daemon__DumpResp *resp,
                    struct st_error **err) {
        return run(operation, false, req, resp, err);
}
