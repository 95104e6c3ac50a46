/* SPDX-License-Identifier: Apache-2.0 */

/* Threads and namespaces of a tree that CRIU cannot take. */

#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "engine/preflight_dump.h"
#include "process/freezer.h"
#include "process/parse.h"
#include "process/threads.h"

/* A wait for a disk ends, and the thread runs for a moment; one that has not run for so long is stuck. */
#define STUCK_MS 400
#define STUCK_STEP_MS 20

struct visit {
        struct dump_problems *problems;
        const struct process_task *task;
        int proc_fd;
        struct thread *blocked; /* in state D at the first look */
        size_t n, room;
};

static int visit_thread(const struct thread *thread, void *userdata) {
        struct visit *visit = userdata;
        const struct process_task *task = visit->task;

        /* Of the first threads dump_analyse() has told. */
        if (thread->tracer && thread->tid != task->pid)
                dump_problem(visit->problems, EBUSY,
                             "end the debugger or strace first: a process has one tracer at most",
                             "thread %d of process %d (%s) is traced by process %d", thread->tid, task->pid,
                             task->command, thread->tracer);
        if (thread->state == 'D') {
                GROW(visit->blocked, visit->n, visit->room);
                visit->blocked[visit->n++] = *thread;
        }
        return 0;
}

/** Does a thread hang in the same uninterruptible wait all the time? CRIU would wait for 10 s, the others frozen. */
static bool is_stuck(int proc_fd, const struct thread *before) {
        struct thread now;

        for (int waited = 0; waited < STUCK_MS; waited += STUCK_STEP_MS) {
                if (thread_read(proc_fd, before->tid, &now) < 0 || now.state != 'D' || now.switches != before->switches)
                        return false;
                (void)poll(NULL, 0, STUCK_STEP_MS);
        }
        return true;
}

static void report_stuck(struct visit *visit, const struct thread *thread) {
        _cleanup_free_ char *path = xasprintf("task/%d/wchan", thread->tid), *where = NULL;

        if (proc_read_file_at(visit->proc_fd, path, &where, NULL) < 0 || streq(where, "0"))
                where = xstrdup("the kernel");
        if (streq(where, "kernel_clone"))
                dump_problem(visit->problems, EBUSY, "try again when its child has started its program, or has ended",
                             "process %d (%s) waits for a child that it made by vfork()", visit->task->pid,
                             visit->task->command);
        else
                dump_problem(visit->problems, EBUSY,
                             "what it waits for, a disk or file server most likely, does not answer",
                             "process %d (%s) hangs in %s and cannot be stopped", visit->task->pid,
                             visit->task->command, where);
}

static void check_task(struct visit *visit) {
        const struct process_task *task = visit->task;

        if (task->state == 'Z' && task->threads > 1) {
                dump_problem(visit->problems, EOPNOTSUPP, NULL,
                             "the first thread of process %d (%s) has ended while others run, which CRIU cannot dump",
                             task->pid, task->command);
                return;
        }
        if (task->threads <= 1 && task->state != 'D')
                return;
        (void)threads_each(visit->proc_fd, visit_thread, visit);
        if (visit->n > 0 && freezer_holds_process(task->pid)) /* dump_keep_frozen() knows what to do */
                return;
        for (size_t i = 0; i < visit->n; i++)
                if (is_stuck(visit->proc_fd, &visit->blocked[i])) {
                        report_stuck(visit, &visit->blocked[i]);
                        return;
                }
}

void preflight_threads(struct st_dump *dump, struct dump_problems *problems) {
        const struct process_analysis *analysis = dump_context(dump)->analysis;

        for (size_t i = 0; i < analysis->n_tasks; i++) {
                _cleanup_close_ int proc_fd = proc_open(analysis->tasks[i].pid);
                struct visit visit = { .problems = problems, .task = &analysis->tasks[i], .proc_fd = proc_fd };

                if (proc_fd >= 0)
                        check_task(&visit);
                free(visit.blocked);
        }
}

/* Those that CRIU dumps once for a tree. Of mounts and networks it dumps as many as there are. */
static const struct {
        const char *file, *name;
} namespaces[] = {
        { "ns/pid", "PID" }, { "ns/user", "user" },     { "ns/ipc", "IPC" },
        { "ns/uts", "UTS" }, { "ns/cgroup", "cgroup" }, { "ns/time", "time" },
};

static ino_t namespace_of(int proc_fd, const char *file) {
        struct stat st;

        return fstatat(proc_fd, file, &st, 0) < 0 ? 0 : st.st_ino;
}

void preflight_namespaces(struct st_dump *dump, struct dump_problems *problems) {
        const struct process_analysis *analysis = dump_context(dump)->analysis;
        _cleanup_close_ int own_fd = proc_open(getpid()), root_fd = proc_open(dump->pid);
        ino_t own[ELEMENTSOF(namespaces)], root[ELEMENTSOF(namespaces)];

        if (own_fd < 0 || root_fd < 0)
                return;
        for (size_t k = 0; k < ELEMENTSOF(namespaces); k++) {
                own[k] = namespace_of(own_fd, namespaces[k].file);
                root[k] = namespace_of(root_fd, namespaces[k].file);
        }
        for (size_t i = 1; i < analysis->n_tasks; i++) {
                const struct process_task *task = &analysis->tasks[i];
                _cleanup_close_ int proc_fd = proc_open(task->pid);

                for (size_t k = 0; proc_fd >= 0 && k < ELEMENTSOF(namespaces); k++) {
                        ino_t inode = namespace_of(proc_fd, namespaces[k].file);

                        if (inode != 0 && inode != root[k] && inode != own[k])
                                dump_problem(problems, EOPNOTSUPP,
                                             "dump the process that began the namespace, as the root of its own tree",
                                             "process %d (%s) is in another %s namespace than process %d, "
                                             "which CRIU cannot dump",
                                             task->pid, task->command, namespaces[k].name, dump->pid);
                }
        }
}
