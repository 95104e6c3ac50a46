/* SPDX-License-Identifier: Apache-2.0 */

/* Are the PIDs and terminals free that a tree needs? */

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "engine/preflight_restore.h"
#include "process/idmap.h"
#include "process/parse.h"

/* A zombie whose parent reaps late (PID 1 of some machines takes seconds) is worth a moment; so is who is dying. */
#define DYING_WAIT_MS 10000
#define DYING_STEP_MS 20

#define NEW_NAMESPACE "restore in a new PID namespace: 'unshare --pid --fork --mount-proc'"

struct pids {
        struct preflight *preflight;
        struct idmap others; /* process groups and sessions of this machine */
        int budget_ms;       /* what is left of the wait for the dying, for all PIDs together */
        size_t looked, originals;
};

/**
 * Who holds a PID that is needed; NULL: it is free. While only zombies and the dying hold it, it is waited for.
 */
static int find_holder(struct pids *pids, pid_t pid, char **ret, struct st_error **err) {
        for (;;) {
                /* Asked first: a zombie may be reaped between the two. */
                bool dying = proc_pid_is_of_dying(pid);
                _cleanup_free_ char *holder = proc_describe_pid(pid);
                int r = st_operation_check_cancelled(pids->preflight->restore->operation, err);

                if (r < 0)
                        return r;
                if (!holder || pids->budget_ms <= 0 || !dying) {
                        *ret = TAKE_PTR(holder);
                        return 0;
                }
                (void)poll(NULL, 0, DYING_STEP_MS);
                pids->budget_ms -= DYING_STEP_MS;
        }
}

/** Does the process still run that was dumped? */
static bool is_original(const struct preflight *preflight, const struct saved_task *task) {
        const struct saved_state *saved = preflight->saved;

        return task && saved->boot && task->start > 0 && streq(saved->boot, proc_boot_id()) &&
               proc_is_alive(task->pid, task->start);
}

/** @param task whose PID or thread ID it was; NULL: not known */
static int check_pid(struct pids *pids, pid_t pid, const struct saved_task *task, struct st_error **err) {
        _cleanup_free_ char *path = xasprintf("/proc/%d", pid), *holder = NULL, *subject = NULL;
        int r;

        if (pid <= 0)
                return 0;
        pids->looked++;
        if (access(path, F_OK) < 0 && !idmap_get(&pids->others, (uint64_t)pid))
                return 0;
        r = find_holder(pids, pid, &holder, err);
        if (r < 0 || !holder)
                return r;
        subject = xasprintf("PID %d", pid); /* a bare number would be one in JSON, too */
        if (!is_original(pids->preflight, task))
                preflight_find(pids->preflight, DAEMON__FINDING_LEVEL__PROBLEM, EEXIST, subject,
                               "end that process first, or " NEW_NAMESPACE, "PID %d is taken by %s", pid, holder);
        else if (pids->originals++ == 0) /* once: the others of the tree most likely run, too */
                preflight_find(pids->preflight, DAEMON__FINDING_LEVEL__PROBLEM, EEXIST, subject,
                               "stop the original first (a dump with --stop ends it), or " NEW_NAMESPACE,
                               "PID %d is taken by %s: the original still runs", pid, holder);
        return 0;
}

/** A number is taken as long as it is somebody's process group or session: one look at all processes tells. */
static void note_others(struct idmap *others) {
        _cleanup_closedir_ DIR *dir = opendir("/proc");
        const struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                struct proc_stat stat;
                pid_t pid;

                if (text_to_pid(entry->d_name, &pid) < 0 || proc_read_stat(pid, &stat) < 0)
                        continue;
                if (stat.pgid > 0)
                        idmap_put(others, (uint64_t)stat.pgid, 1);
                if (stat.sid > 0)
                        idmap_put(others, (uint64_t)stat.sid, 1);
        }
}

static int check_saved(struct pids *pids, struct st_error **err) {
        const struct saved_state *saved = pids->preflight->saved;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < saved->n_tasks; i++) {
                const struct saved_task *task = &saved->tasks[i];

                r = check_pid(pids, task->pid, task, err);
                for (size_t k = 0; r >= 0 && k < task->n_threads; k++)
                        r = check_pid(pids, task->threads[k], task, err);
        }
        return r;
}

/** Of a checkpoint that plain CRIU made: as its own image says. */
static int check_image(struct pids *pids, struct st_error **err) {
        const struct criu_image_list *list = inspect_images_find(pids->preflight->images, "pstree", 0);
        int r = 0;

        for (size_t i = 0; list && r >= 0 && i < list->n; i++) {
                const CriuImage__Pstree *task = (const CriuImage__Pstree *)list->items[i];

                r = check_pid(pids, (pid_t)task->pid, NULL, err);
                for (size_t k = 0; r >= 0 && k < task->n_threads; k++)
                        if (task->threads[k] != task->pid)
                                r = check_pid(pids, (pid_t)task->threads[k], NULL, err);
        }
        return r;
}

int preflight_pids(struct preflight *preflight, struct st_error **err) {
        struct pids pids = { .preflight = preflight, .budget_ms = DYING_WAIT_MS };
        int r = 0;

        if (preflight->saved && preflight->saved->pid_namespace) {
                preflight_summary(preflight, "a PID namespace of its own is made");
                return 0;
        }
        note_others(&pids.others);
        if (preflight->saved)
                r = check_saved(&pids, err);
        else if (preflight->images)
                r = check_image(&pids, err);
        idmap_clear(&pids.others);
        preflight_summary(preflight, "free: %zu", pids.looked);
        return r;
}

int preflight_terminals(struct preflight *preflight, struct st_error **err) {
        const struct saved_state *saved = preflight->saved;

        (void)err;
        for (size_t i = 0; saved && i < saved->n_ptys; i++) {
                _cleanup_free_ char *path = xasprintf("/dev/pts/%u", saved->ptys[i]);

                if (access(path, F_OK) == 0)
                        preflight_find(preflight, DAEMON__FINDING_LEVEL__PROBLEM, EBUSY, path,
                                       "end the session on it, or restore with a /dev/pts of its own: "
                                       "'unshare --mount', then mount devpts there",
                                       "terminal %u is in use", saved->ptys[i]);
        }
        if (saved && saved->n_ptys > 0)
                preflight_summary(preflight, "free: %zu", saved->n_ptys);
        return 0;
}
