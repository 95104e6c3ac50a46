/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/idmap.h"
#include "process/parse.h"
#include "process/tree.h"

#define TASKS_LIMIT 65536
#define CHILDREN_LIMIT ((size_t)1 << 20)

struct reader {
        struct tree *tree;
        struct idmap *seen; /* PID → index: a process that changes its parent meanwhile is found twice */
};

void tree_task_clear(struct process_task *task) {
        free(task->command);
        *task = (struct process_task){ 0 };
}

void tree_clear(struct tree *tree) {
        for (size_t i = 0; i < tree->n; i++)
                tree_task_clear(&tree->tasks[i]);
        free(tree->tasks);
        *tree = (struct tree){ 0 };
}

bool tree_task_is_dead(const struct process_task *task) {
        const struct proc_stat stat = { .state = task->state, .threads = task->threads };

        return proc_stat_is_dead(&stat);
}

static void add_task(struct reader *reader, const struct proc_stat *stat) {
        struct tree *tree = reader->tree;

        if (!idmap_put(reader->seen, (uint64_t)stat->pid, tree->n))
                return;
        GROW(tree->tasks, tree->n, tree->room);
        tree->tasks[tree->n++] = (struct process_task){
                .pid = stat->pid,
                .ppid = stat->ppid,
                .pgid = stat->pgid,
                .sid = stat->sid,
                .state = stat->state,
                .start_time = stat->start_time,
                .threads = stat->threads,
                .tty_nr = stat->tty_nr,
                .command = xstrdup(stat->command),
        };
}

/* Children of one thread, from the text of its `children` file. */
static int add_children(struct reader *reader, char *text) {
        char *word;
        pid_t pid;

        while ((word = parse_word(&text))) {
                struct proc_stat stat;

                if (text_to_pid(word, &pid) < 0 || idmap_get(reader->seen, (uint64_t)pid))
                        continue;
                /* Ended and its number given to another one, or adopted by init: no longer of this tree. */
                if (proc_read_stat(pid, &stat) < 0 || !idmap_get(reader->seen, (uint64_t)stat.ppid))
                        continue;
                if (reader->tree->n >= TASKS_LIMIT)
                        return -E2BIG;
                add_task(reader, &stat);
        }
        return 0;
}

static int read_thread_children(struct reader *reader, int proc_fd, const char *tid) {
        _cleanup_free_ char *text = NULL;
        char path[64];
        size_t size;

        snprintf(path, sizeof(path), "task/%.16s/children", tid);
        int r = io_read_file(proc_fd, path, CHILDREN_LIMIT, &text, &size);
        if (r < 0)
                return r;
        return add_children(reader, text);
}

/* A child belongs to the thread that made it: all of them are asked. */
static int read_children(struct reader *reader, const struct process_task *task) {
        _cleanup_close_ int proc_fd = proc_open(task->pid);
        _cleanup_closedir_ DIR *dir = NULL;
        const struct dirent *entry;
        char tid[16];
        int r = 0;

        if (proc_fd < 0)
                return 0;
        if (task->threads <= 1) {
                snprintf(tid, sizeof(tid), "%d", (int)task->pid);
                r = read_thread_children(reader, proc_fd, tid);
                return r == -E2BIG ? r : 0;
        }

        int dir_fd = openat(proc_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd >= 0 && !(dir = fdopendir(dir_fd)))
                close(dir_fd);
        while (dir && r != -E2BIG && (entry = readdir(dir)))
                if (entry->d_name[0] != '.')
                        r = read_thread_children(reader, proc_fd, entry->d_name);
        return r == -E2BIG ? r : 0;
}

/* Without CONFIG_PROC_CHILDREN: all processes of the system, by their parents, until no pass finds another one. */
static int scan_parents(struct reader *reader) {
        _cleanup_closedir_ DIR *dir = opendir("/proc");
        const struct dirent *entry;
        size_t before;

        if (!dir)
                return -errno;
        do {
                before = reader->tree->n;
                rewinddir(dir);
                while ((entry = readdir(dir))) {
                        struct proc_stat stat;
                        pid_t pid;

                        if (text_to_pid(entry->d_name, &pid) < 0 || idmap_get(reader->seen, (uint64_t)pid) ||
                            proc_read_stat(pid, &stat) < 0 || !idmap_get(reader->seen, (uint64_t)stat.ppid))
                                continue;
                        if (reader->tree->n >= TASKS_LIMIT)
                                return -E2BIG;
                        add_task(reader, &stat);
                }
        } while (reader->tree->n > before);
        return 0;
}

static bool kernel_lists_children(void) {
        return access("/proc/thread-self/children", F_OK) == 0;
}

static int read_descendants(struct reader *reader) {
        if (!kernel_lists_children())
                return scan_parents(reader);
        for (size_t i = 0; i < reader->tree->n; i++) {
                struct process_task task = reader->tree->tasks[i]; /* the array moves when it grows */
                int r = read_children(reader, &task);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int check_root(pid_t root, int proc_fd, struct st_error **err) {
        _cleanup_status_ struct proc_status status = { 0 };
        struct proc_stat stat;

        if (proc_read_status_at(proc_fd, &status) < 0)
                return st_error_set(err, ESRCH, "no process %d", (int)root);
        if (status.tgid == root)
                return 0;
        if (proc_read_stat(status.tgid, &stat) < 0)
                return st_error_set(err, ESRCH, "no process %d", (int)root);
        st_error_set(err, ESRCH, "no process %d: it is a thread of process %d (%s)", (int)root, (int)status.tgid,
                     stat.command);
        st_error_hint(err, "use %d", (int)status.tgid);
        return -ESRCH;
}

int tree_read(pid_t root, bool descendants, struct tree *ret, struct st_error **err) {
        _cleanup_close_ int proc_fd = proc_open(root);
        _cleanup_tree_ struct tree tree = { 0 };
        _cleanup_idmap_ struct idmap seen = { 0 };
        struct proc_stat stat;
        int r = 0;

        if (proc_fd < 0 && proc_fd != -ESRCH)
                return st_error_errno(err, proc_fd, "cannot open /proc/%d", (int)root);
        if (proc_fd < 0 || proc_read_stat_at(proc_fd, &stat) < 0)
                return st_error_set(err, ESRCH, "no process %d", (int)root);
        if ((r = check_root(root, proc_fd, err)) < 0)
                return r;

        struct reader reader = { .tree = &tree, .seen = &seen };
        add_task(&reader, &stat);
        tree.kernel_thread = stat.flags & PROC_KERNEL_THREAD;
        if (descendants)
                r = read_descendants(&reader);
        if (r == -E2BIG)
                return st_error_set(err, E2BIG, "process %d has more than %d descendants", (int)root, TASKS_LIMIT);
        if (r < 0)
                return st_error_errno(err, r, "cannot read the descendants of process %d", (int)root);
        *ret = tree;
        tree = (struct tree){ 0 };
        return 0;
}

pid_t tree_find_vfork(const struct process_task *tasks, size_t n) {
        for (size_t i = 1; i < n; i++)
                if (tasks[i].state != 'Z' && tasks[i].ppid > 0 &&
                    syscall(SYS_kcmp, tasks[i].ppid, tasks[i].pid, KCMP_VM, 0, 0) == 0)
                        return tasks[i].ppid;
        return 0;
}
