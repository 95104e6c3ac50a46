/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/freezer.h"
#include "process/parse.h"
#include "process/stopper.h"
#include "process/tree.h"

/* Whoever does not stand by then may wait for a child that we have stopped: see release_vfork(). */
#define VFORK_AFTER_MS 30

void stopped_add(struct stopped *stopped, pid_t pid, uint64_t start_time, bool ours) {
        GROW(stopped->tasks, stopped->n, stopped->room);
        stopped->tasks[stopped->n++] = (struct stopped_task){ pid, start_time, ours };
}

const struct stopped_task *stopped_find(const struct stopped *stopped, pid_t pid, uint64_t start_time) {
        for (size_t i = 0; i < stopped->n; i++)
                if (stopped->tasks[i].pid == pid && stopped->tasks[i].start_time == start_time)
                        return &stopped->tasks[i];
        return NULL;
}

void stopped_clear(struct stopped *stopped) {
        free(stopped->tasks);
        *stopped = (struct stopped){ 0 };
}

int stopper_signal(pid_t pid, uint64_t start_time, int number) {
        _cleanup_close_ int pidfd = pidfd_open(pid, 0);

        if (pidfd < 0)
                return -errno;
        /* The descriptor is of the process that has the number now: only then its identity counts. */
        if (!proc_is_alive(pid, start_time))
                return -ESRCH;
        return pidfd_send_signal(pidfd, number, NULL, 0) < 0 ? -errno : 0;
}

/* proc_pid_status(5): NSpid lists the PIDs from our namespace to the innermost. */
pid_t stopper_own_pid(pid_t pid) {
        _cleanup_free_ char *value = proc_read_value(pid, "status", "NSpid");
        char *at = value, *word;
        struct proc_stat stat;
        pid_t own = pid;

        if (!value) /* a kernel without PID namespaces has no such line */
                return proc_read_stat(pid, &stat) < 0 ? 0 : pid;
        while ((word = parse_word(&at)))
                if (text_to_pid(word, &own) < 0)
                        return pid;
        return own;
}

static bool thread_stands(int proc_fd, const char *tid) {
        _cleanup_free_ char *file = xasprintf("task/%s/stat", tid), *text = NULL;
        struct proc_stat stat;

        if (proc_read_file_at(proc_fd, file, &text, NULL) < 0 || proc_parse_stat(text, &stat) < 0)
                return true; /* it has ended */
        return stat.state == 'T' || stat.state == 'Z' || stat.state == 'X';
}

static bool threads_stand(int proc_fd) {
        int fd = openat(proc_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_closedir_ DIR *dir = NULL;
        const struct dirent *entry;

        if (fd < 0)
                return true;
        dir = fdopendir(fd);
        if (!dir) {
                close(fd);
                return false;
        }
        while ((entry = readdir(dir)))
                if (entry->d_name[0] != '.' && !thread_stands(proc_fd, entry->d_name))
                        return false;
        return true;
}

bool stopper_stands(pid_t pid, uint64_t start_time) {
        _cleanup_close_ int proc_fd = proc_open(pid);
        struct proc_stat stat;

        if (proc_fd < 0 || proc_read_stat_at(proc_fd, &stat) < 0 || stat.start_time != start_time ||
            proc_stat_is_dead(&stat))
                return false;
        return stat.threads <= 1 ? stat.state == 'T' : threads_stand(proc_fd);
}

/* What a freeze needs to know while it goes on. */
struct stopping {
        const struct stopper *options;
        const struct stopped *known;
        struct stopped *stopped;
        uint64_t begin, end; /* ms */
        struct freezer_hierarchy freezers[2];
};

static int check_tracer(const struct process_task *task, struct st_error **err) {
        _cleanup_close_ int proc_fd = proc_open(task->pid);
        _cleanup_status_ struct proc_status status = { 0 };

        if (proc_fd < 0 || proc_read_status_at(proc_fd, &status) < 0 || status.tracer == 0)
                return 0;
        st_error_set(err, EBUSY, "process %d (%s) is traced by process %d", task->pid, task->command, status.tracer);
        st_error_hint(err, "end the debugger or strace first, or wait for the end of a dump");
        return -EBUSY;
}

/** Takes processes that are new into the list. @return how many, or -errno with err */
static int take_new(struct stopping *stopping, const struct tree *tree, struct st_error **err) {
        struct stopped *stopped = stopping->stopped;
        size_t before = stopped->n;

        for (size_t i = 0; i < tree->n; i++) {
                const struct process_task *task = &tree->tasks[i];
                const struct stopped_task *known;
                int r;

                if (tree_task_is_dead(task) || stopped_find(stopped, task->pid, task->start_time))
                        continue;
                r = check_tracer(task, err);
                if (r < 0)
                        return r;
                known = stopping->known ? stopped_find(stopping->known, task->pid, task->start_time) : NULL;
                stopped_add(stopped, task->pid, task->start_time,
                            (known && known->ours) || !stopper_stands(task->pid, task->start_time));
        }
        if (stopped->n == before)
                return 0;
        if (stopping->options->record) {
                int r = stopping->options->record(stopped, stopping->options->userdata, err);
                if (r < 0)
                        return r;
        }
        return (int)(stopped->n - before);
}

/** Does nothing of the process run any more? One in a frozen cgroup gets its signal only when that is thawed. */
static bool is_at_rest(const struct stopping *stopping, const struct stopped_task *task) {
        if (stopper_stands(task->pid, task->start_time) || !proc_is_alive(task->pid, task->start_time))
                return true;
        return freezer_holds(&stopping->freezers[0], task->pid) || freezer_holds(&stopping->freezers[1], task->pid);
}

/** Does a child share the memory of its parent: made by vfork(2), and its program not yet started? */
static bool is_vforked(const struct stopped_task *parent, const struct stopped_task *child) {
        struct proc_stat stat;

        return child != parent && proc_read_stat(child->pid, &stat) >= 0 && stat.ppid == parent->pid &&
               syscall(SYS_kcmp, parent->pid, child->pid, KCMP_VM, 0, 0) == 0;
}

/**
 * vfork(2): the parent cannot be stopped before its child has exec'ed, and the child cannot exec when it was stopped
 * first. It may run a moment longer.
 */
static void release_vfork(const struct stopping *stopping, const struct stopped_task *parent) {
        const struct stopped *stopped = stopping->stopped;

        for (size_t i = 0; i < stopped->n; i++) {
                const struct stopped_task *child = &stopped->tasks[i];

                if (!child->ours || !is_vforked(parent, child) || !stopper_stands(child->pid, child->start_time))
                        continue;
                (void)stopper_signal(child->pid, child->start_time, SIGCONT);
                (void)poll(NULL, 0, 2);
                (void)stopper_signal(child->pid, child->start_time, SIGSTOP);
        }
}

static bool waits_for_vfork(const struct stopping *stopping, const struct stopped_task *parent) {
        for (size_t i = 0; i < stopping->stopped->n; i++)
                if (is_vforked(parent, &stopping->stopped->tasks[i]))
                        return true;
        return false;
}

static int not_at_rest(const struct stopping *stopping, const struct stopped_task *task, struct st_error **err) {
        struct proc_stat stat;

        if (proc_read_stat(task->pid, &stat) < 0)
                return st_error_set(err, ETIMEDOUT, "its processes change faster than they can be stopped");
        if (waits_for_vfork(stopping, task)) {
                st_error_set(err, ETIMEDOUT, "process %d (%s) waits for a child that it made by vfork()", task->pid,
                             stat.command);
                st_error_hint(err, "try again when the child has started its program, or has ended");
                return -ETIMEDOUT;
        }
        st_error_set(err, ETIMEDOUT, "process %d (%s) does not stop: its state is %c", task->pid, stat.command,
                     stat.state);
        st_error_hint(err, "in state D it waits for a disk or a network file system: try again later");
        return -ETIMEDOUT;
}

/** Waits until nothing in the list runs. */
static int wait_for_rest(struct stopping *stopping, struct st_error **err) {
        const struct stopped *stopped = stopping->stopped;
        int pause_ms = 1;

        for (size_t i = 0; i < stopped->n;) {
                const struct stopped_task *task = &stopped->tasks[i];
                struct pollfd cancel = { .fd = stopping->options->cancel_fd, .events = POLLIN };

                if (is_at_rest(stopping, task)) {
                        i++;
                        pause_ms = 1;
                        continue;
                }
                if (clock_ms() >= stopping->end)
                        return not_at_rest(stopping, task, err);
                if (poll(&cancel, 1, pause_ms) > 0)
                        return st_error_set(err, ECANCELED, "cancelled");
                if (clock_ms() >= stopping->begin + VFORK_AFTER_MS)
                        release_vfork(stopping, task);
                /* Somebody continued it meanwhile. */
                if (!task->ours || pause_ms >= 16) {
                        stopped->tasks[i].ours = true;
                        (void)stopper_signal(task->pid, task->start_time, SIGSTOP);
                }
                pause_ms = pause_ms < 16 ? pause_ms * 2 : pause_ms;
        }
        return 0;
}

static int stop_all(struct stopping *stopping, pid_t root, struct st_error **err) {
        struct stopped *stopped = stopping->stopped;

        for (;;) {
                _cleanup_tree_ struct tree tree = { 0 };
                size_t before = stopped->n;
                struct pollfd cancel = { .fd = stopping->options->cancel_fd, .events = POLLIN };
                int r = tree_read(root, true, &tree, err);

                if (r >= 0)
                        r = take_new(stopping, &tree, err);
                if (r < 0)
                        return r;
                if (r == 0) /* all were stopped before the tree was read: nobody could fork since */
                        return 0;
                for (size_t i = before; i < stopped->n; i++)
                        if (stopped->tasks[i].ours)
                                (void)stopper_signal(stopped->tasks[i].pid, stopped->tasks[i].start_time, SIGSTOP);
                r = wait_for_rest(stopping, err);
                if (r < 0)
                        return r;
                if (clock_ms() >= stopping->end)
                        return st_error_set(err, ETIMEDOUT, "it makes processes faster than they can be stopped");
                if (poll(&cancel, 1, 0) > 0)
                        return st_error_set(err, ECANCELED, "cancelled");
        }
}

/** Takes out those that ended while the tree was being stopped. */
static void forget_dead(struct stopped *stopped) {
        size_t n = 0;

        for (size_t i = 0; i < stopped->n; i++)
                if (proc_is_alive(stopped->tasks[i].pid, stopped->tasks[i].start_time))
                        stopped->tasks[n++] = stopped->tasks[i];
        stopped->n = n;
}

int stopper_stop(pid_t root, const struct stopper *options, const struct stopped *known, struct stopped *ret,
                 struct st_error **err) {
        uint64_t now = clock_ms();
        struct stopping stopping = {
                .options = options,
                .known = known,
                .stopped = ret,
                .begin = now,
                .end = now + (uint64_t)options->timeout_ms,
        };
        int r;

        *ret = (struct stopped){ 0 };
        freezer_hierarchy_load(FREEZER_V1, &stopping.freezers[0]);
        freezer_hierarchy_load(FREEZER_V2, &stopping.freezers[1]);
        r = stop_all(&stopping, root, err);
        freezer_hierarchy_clear(&stopping.freezers[0]);
        freezer_hierarchy_clear(&stopping.freezers[1]);
        if (r < 0) {
                (void)stopper_continue(ret);
                stopped_clear(ret);
        } else
                forget_dead(ret);
        return r;
}

size_t stopper_continue(const struct stopped *stopped) {
        size_t n = 0;

        for (size_t i = stopped->n; i > 0; i--) {
                const struct stopped_task *task = &stopped->tasks[i - 1];

                if (task->ours)
                        n += stopper_signal(task->pid, task->start_time, SIGCONT) == 0;
        }
        return n;
}
