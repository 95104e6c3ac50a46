/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/access.h"
#include "process/analysis.h"
#include "process/files.h"
#include "process/idmap.h"
#include "process/namespaces.h"
#include "process/parse.h"
#include "process/sockets.h"
#include "process/tree.h"

/* Documentation/admin-guide/devices.txt of the kernel: slaves of UNIX 98 ptys; /dev/tty, /dev/console and /dev/ptmx. */
#define PTY_SLAVE_MAJOR 136
#define PTY_SLAVE_MAJORS 8
#define TTY_AUX_MAJOR 5
#define PTMX_MINOR 2

enum pipe_end { PIPE_READ = 1 << 0, PIPE_WRITE = 1 << 1 };

/* What is collected while the descriptors are read, and judged when all are known. */
struct analyser {
        struct process_analysis *analysis;
        pid_t pid; /* whose descriptors are being read */
        int proc_fd;

        uint64_t shared; /* the most shared memory that one task has: the others mostly share it */

        struct process_fds pipes;
        struct idmap pipe_ends; /* inode → bits of enum pipe_end that the tree holds */

        struct process_fds socket_fds;
        size_t *socket_indices; /* of socket_fds, in `sockets` */
        size_t room_indices;
        struct sockets sockets;
};

static void fds_clear(struct process_fds *list) {
        for (size_t i = 0; i < list->n; i++)
                free(list->items[i].path);
        free(list->items);
        *list = (struct process_fds){ 0 };
}

static void analyser_clear(struct analyser *analyser) {
        fds_clear(&analyser->pipes);
        fds_clear(&analyser->socket_fds);
        idmap_clear(&analyser->pipe_ends);
        sockets_clear(&analyser->sockets);
        free(analyser->socket_indices);
}

struct process_analysis *process_analysis_free(struct process_analysis *analysis) {
        if (!analysis)
                return NULL;
        for (size_t i = 0; i < analysis->n_tasks; i++)
                tree_task_clear(&analysis->tasks[i]);
        free(analysis->tasks);
        fds_clear(&analysis->terminals);
        free(analysis->ptys);
        fds_clear(&analysis->external_pipes);
        fds_clear(&analysis->external_unix);
        fds_clear(&analysis->io_urings);
        free(analysis);
        return NULL;
}

static void fds_add(struct process_fds *list, pid_t pid, const struct file *file) {
        GROW(list->items, list->n, list->room);
        list->items[list->n++] = (struct process_fd){
                .pid = pid,
                .fd = file->fd,
                .inode = file->inode,
                .dev = file->dev,
                .rdev = file->rdev,
                .writable = file->writable,
                .path = text_sanitise(file->link, strlen(file->link)),
        };
}

/* Moves an element to another list. */
static void fds_take(struct process_fds *list, struct process_fd *fd) {
        GROW(list->items, list->n, list->room);
        list->items[list->n++] = *fd;
        *fd = (struct process_fd){ 0 };
}

static void add_pipe(struct analyser *analyser, const struct file *file) {
        const size_t *known = idmap_get(&analyser->pipe_ends, file->inode);
        size_t ends = known ? *known : 0;

        ends |= (file->readable ? PIPE_READ : 0) | (file->writable ? PIPE_WRITE : 0);
        idmap_put(&analyser->pipe_ends, file->inode, ends);
        fds_add(&analyser->pipes, analyser->pid, file);
}

static void add_socket(struct analyser *analyser, const struct file *file) {
        size_t index = sockets_add(&analyser->sockets, analyser->proc_fd, analyser->pid, file->fd, file->inode);

        GROW(analyser->socket_indices, analyser->socket_fds.n, analyser->room_indices);
        analyser->socket_indices[analyser->socket_fds.n] = index;
        fds_add(&analyser->socket_fds, analyser->pid, file);
        analyser->socket_fds.items[analyser->socket_fds.n - 1].writable = true;
}

static bool is_slave(dev_t device) {
        unsigned major = major(device);

        return major >= PTY_SLAVE_MAJOR && major < PTY_SLAVE_MAJOR + PTY_SLAVE_MAJORS;
}

static unsigned slave_index(dev_t device) {
        return (major(device) - PTY_SLAVE_MAJOR) * 256 + minor(device);
}

/* A terminal whose master was closed has lost its name, and is nobody's controlling terminal any more. */
static bool is_hung_up(const struct process_fd *fd) {
        return is_slave(fd->rdev) && text_ends_with(fd->path, " (deleted)");
}

static void add_pty(struct process_analysis *analysis, unsigned index) {
        GROW(analysis->ptys, analysis->n_ptys, analysis->room_ptys);
        analysis->ptys[analysis->n_ptys++] = index;
}

static void add_terminal(struct analyser *analyser, const struct file *file) {
        struct process_analysis *analysis = analyser->analysis;
        _cleanup_free_ char *path = NULL, *index = NULL;

        fds_add(&analysis->terminals, analyser->pid, file);
        /* CRIU opens a master for it again, closes that, and wants the same index. */
        if (is_hung_up(&analysis->terminals.items[analysis->terminals.n - 1]))
                add_pty(analysis, slave_index(file->rdev));
        if (file->rdev != makedev(TTY_AUX_MAJOR, PTMX_MINOR))
                return;
        /* A master says which terminal it is of: "tty-index:\t3". */
        path = xasprintf("fdinfo/%d", file->fd);
        index = proc_read_value_at(analyser->proc_fd, path, "tty-index");
        if (index)
                add_pty(analysis, (unsigned)strtoul(index, NULL, 10));
}

static int add_file(const struct file *file, void *userdata) {
        struct analyser *analyser = userdata;

        switch (file->kind) {
        case FILE_PIPE:
                add_pipe(analyser, file);
                break;
        case FILE_SOCKET:
                add_socket(analyser, file);
                break;
        case FILE_TERMINAL:
                add_terminal(analyser, file);
                break;
        case FILE_IO_URING:
                fds_add(&analyser->analysis->io_urings, analyser->pid, file);
                break;
        case FILE_PLAIN:
                break;
        }
        return 0;
}

/* @return -ESRCH when the process is gone; -EPERM with err */
static int read_task(struct analyser *analyser, struct process_task *task, struct st_error **err) {
        _cleanup_status_ struct proc_status status = { 0 };
        _cleanup_close_ int proc_fd = proc_open(task->pid);
        struct proc_stat stat;

        if (proc_fd < 0 || proc_read_stat_at(proc_fd, &stat) < 0 || stat.start_time != task->start_time)
                return -ESRCH;
        if (proc_read_status_at(proc_fd, &status) == 0) {
                task->tracer = status.tracer;
                task->rss = status.memory;
                analyser->analysis->memory += status.anonymous;
                analyser->analysis->huge_pages |= status.huge > 0;
                if (status.shared > analyser->shared)
                        analyser->shared = status.shared;
        }
        task->state = stat.state;
        if (proc_stat_is_dead(&stat) || (stat.flags & PROC_KERNEL_THREAD))
                return 0; /* nothing is open, and only root may ask */
        analyser->pid = task->pid;
        analyser->proc_fd = proc_fd;
        int r = files_each(proc_fd, FILES_KINDS, add_file, analyser);
        if (r == -EACCES || r == -EPERM)
                return access_denied(task->pid, err);
        if (r < 0 && r != -ESRCH)
                return st_error_errno(err, r, "cannot read the descriptors of process %d", (int)task->pid);
        return r;
}

static void judge_pipes(struct analyser *analyser) {
        for (size_t i = 0; i < analyser->pipes.n; i++) {
                struct process_fd *fd = &analyser->pipes.items[i];

                if (*idmap_get(&analyser->pipe_ends, fd->inode) != (PIPE_READ | PIPE_WRITE))
                        fds_take(&analyser->analysis->external_pipes, fd);
        }
}

static void judge_sockets(struct analyser *analyser) {
        struct process_analysis *analysis = analyser->analysis;

        sockets_resolve(&analyser->sockets);
        for (size_t i = 0; i < analyser->socket_fds.n; i++) {
                const struct socket *socket = &analyser->sockets.items[analyser->socket_indices[i]];

                if (socket_is_established(socket))
                        analysis->tcp_established = true;
                if (sockets_peer_is_outside(&analyser->sockets, socket))
                        fds_take(&analysis->external_unix, &analyser->socket_fds.items[i]);
        }
        analysis->ext_unix = analysis->external_unix.n > 0;
}

static bool holds_master(const struct process_analysis *analysis, dev_t device) {
        for (size_t i = 0; is_slave(device) && i < analysis->n_ptys; i++)
                if (analysis->ptys[i] == slave_index(device))
                        return true;
        return false;
}

/* tty_nr of proc_pid_stat(5) has the kernel's encoding: 12 bits of major number between the 8 and 12 of the minor. */
static dev_t controlling_terminal(const struct process_task *task) {
        unsigned number = (unsigned)task->tty_nr;

        return makedev((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
}

/*
 * Of sessions CRIU looks only whether the root leads its own (cr-dump.c): then no session of the tree is led from
 * outside it, since a new session is always begun by the process that leads it. Of terminals it wants both sides in the
 * tree (tty.c).
 */
static void judge_session(struct process_analysis *analysis) {
        const struct process_task *root = &analysis->tasks[0];

        analysis->shell_job = root->sid != root->pid;
        for (size_t i = 0; i < analysis->terminals.n; i++) {
                struct process_fd *terminal = &analysis->terminals.items[i];

                /* A master needs nobody; what /dev/tty leads to is the controlling terminal, seen below. */
                if (major(terminal->rdev) == TTY_AUX_MAJOR || holds_master(analysis, terminal->rdev))
                        continue;
                terminal->outside = is_slave(terminal->rdev);
                analysis->shell_job = true;
        }
        for (size_t i = 0; i < analysis->n_tasks; i++)
                if (analysis->tasks[i].tty_nr != 0 &&
                    !holds_master(analysis, controlling_terminal(&analysis->tasks[i])))
                        analysis->shell_job = true;
}

/*
 * What is restored begins in the cgroups of who restores it: who was in others must be moved there. CRIU keeps the
 * cgroup namespace, of which there is one for a tree, together with them.
 */
static void judge_surroundings(struct process_analysis *analysis) {
        pid_t root = analysis->tasks[0].pid;

        analysis->own_mounts = namespaces_mounts_on_our_root(root);
        analysis->own_cgroups = namespaces_differ(root, "cgroup");
        for (size_t i = 0; i < analysis->n_tasks && !analysis->own_cgroups; i++)
                analysis->own_cgroups = namespaces_cgroups_differ(analysis->tasks[i].pid);
}

static int read_tasks(struct analyser *analyser, struct st_error **err) {
        struct process_analysis *analysis = analyser->analysis;
        size_t n = 0;

        for (size_t i = 0; i < analysis->n_tasks; i++) {
                struct process_task *task = &analysis->tasks[i];
                int r = read_task(analyser, task, err);

                if (r == -ESRCH && i == 0)
                        return st_error_set(err, ESRCH, "no process %d", (int)task->pid);
                if (r < 0 && r != -ESRCH)
                        return r;
                if (r < 0) {
                        tree_task_clear(task);
                        continue;
                }
                if (n != i) {
                        analysis->tasks[n] = *task;
                        *task = (struct process_task){ 0 };
                }
                n++;
        }
        analysis->n_tasks = n;
        return 0;
}

int process_analyse(pid_t root, struct process_analysis **ret, struct st_error **err) {
        _cleanup_(process_analysis_freep) struct process_analysis *analysis = NEW(struct process_analysis);
        _cleanup_(analyser_clear) struct analyser analyser = { .analysis = analysis };
        struct tree tree = { 0 };

        int r = tree_read(root, true, &tree, err);
        if (r < 0)
                return r;
        analysis->tasks = tree.tasks;
        analysis->n_tasks = tree.n;
        analysis->room_tasks = tree.room;
        analysis->kernel_thread = tree.kernel_thread;

        r = read_tasks(&analyser, err);
        if (r < 0)
                return r;
        analysis->memory += analyser.shared;
        judge_pipes(&analyser);
        if (analyser.sockets.n > 0)
                judge_sockets(&analyser);
        judge_session(analysis);
        judge_surroundings(analysis);
        *ret = TAKE_PTR(analysis);
        return 0;
}
