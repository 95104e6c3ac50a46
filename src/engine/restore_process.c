/* SPDX-License-Identifier: Apache-2.0 */

/* Adapters of the restore that look at this machine: PIDs that must be free, and where descriptors lead now. */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/messages.h"
#include "base/text.h"
#include "engine/restore_context.h"
#include "engine/restore_output.h"
#include "process/proc.h"

int restore_mounts(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        const struct saved_state *saved = restore_context(restore)->saved;

        /* A mount namespace is built anew on the root that CRIU is told; without one it does not begin. */
        if (saved && saved->own_mounts && isempty(restore->criu->root))
                message_set_string(&restore->criu->root, "/");
        return st_restore_proceed(next, restore, err);
}

/**
 * What takes the place of a pipe to a process that was outside the tree: the file of --out, or in the command line the
 * same standard stream of ours.
 *
 * @return a descriptor of its own; -ENOENT when there is nothing, and the end is to lead nowhere; -errno with err
 */
static int replacement(struct st_restore *restore, const struct process_fd *pipe, struct st_error **err) {
        const char *out = restore->req->log;
        int fd;

        if (st_operation_no_server(restore->operation) && isempty(out) && pipe->fd <= STDERR_FILENO) {
                fd = fcntl(pipe->fd, F_DUPFD_CLOEXEC, 3);
                return fd >= 0 ? fd : st_error_errno(err, errno, "cannot hand over descriptor %d", pipe->fd);
        }
        if (!state_pipe_is_output(pipe))
                return -ENOENT;
        if (!isempty(out))
                return restore_open_output(restore, err);
        st_error_set(err, EINVAL, "descriptor %d of process %d was a pipe to a process outside the checkpoint",
                     pipe->fd, pipe->pid);
        st_error_hint(err, "say with --out FILE where its output shall go");
        return -EINVAL;
}

int restore_inherit_files(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        const struct saved_state *saved = restore_context(restore)->saved;
        size_t n = saved ? saved->n_pipes : 0, opened = 0;
        _cleanup_free_ int *fds = xcalloc(n + 1, sizeof(int));
        int r = 0;

        for (size_t i = 0; i < n && r >= 0; i++) {
                _cleanup_free_ char *key = xasprintf("pipe:[%llu]", (unsigned long long)saved->pipes[i].inode);

                if (restore_is_inherited(restore, key)) /* by another descriptor of the pipe */
                        continue;
                r = replacement(restore, &saved->pipes[i], err);
                if (r == -ENOENT)
                        r = 0;
                else if (r >= 0) {
                        fds[opened++] = r;
                        r = st_restore_inherit_fd(restore, r, key, err);
                }
        }
        if (r >= 0)
                r = st_restore_proceed(next, restore, err);
        for (size_t i = 0; i < opened; i++)
                close(fds[i]);
        return r;
}

static bool is_needed(const struct saved_state *saved, unsigned index) {
        for (size_t i = 0; saved && i < saved->n_ptys; i++)
                if (saved->ptys[i] == index)
                        return true;
        return false;
}

/** The master of a new terminal. The kernel gives the lowest free index: those that the tree needs are passed over. */
static int open_master(const struct saved_state *saved) {
        int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        unsigned index;

        if (master < 0 || ioctl(master, TIOCGPTN, &index) < 0 || !is_needed(saved, index))
                return master;
        int next = open_master(saved);
        close(master);
        return next;
}

/** A fresh terminal that we lead a session on: what was a shell's job gets it in the place of the shell's. */
static int make_terminal(const struct saved_state *saved, int *ret_master, int *ret_slave, struct st_error **err) {
        _cleanup_close_ int master = open_master(saved);
        _cleanup_close_ int slave = -EBADF;

        if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
                return st_error_errno(err, errno, "cannot make a terminal for the job");
        slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (slave < 0)
                return st_error_errno(err, errno, "cannot open the job's terminal");

        if (getsid(0) != getpid() && setsid() < 0) {
                int number = errno;
                st_error_errno(err, number, "cannot lead a session for the job's terminal");
                st_error_hint(err, "run it from a terminal, or by 'setsid --wait'");
                return -number;
        }
        /* Its end, when the restore fails, must not be the end of the session's leader. */
        (void)signal(SIGHUP, SIG_IGN);
        if (ioctl(slave, TIOCSCTTY, 0) < 0)
                return st_error_errno(err, errno, "cannot make the terminal the job's own");
        *ret_master = TAKE_FD(master);
        *ret_slave = TAKE_FD(slave);
        return 0;
}

/** Gives CRIU a terminal as its standard streams: the one that a shell job is restored on. */
static void use_terminal(struct restore_context *context, const int fds[3]) {
        for (int i = 0; i < 3; i++) {
                GROW(context->fds, context->n_fds, context->room_fds);
                context->fds[context->n_fds++] = (struct spawn_fd){ .fd = fds[i], .number = i };
        }
}

/** Can --out be written? Asked before anything runs whose output would go there. */
static int check_out(const struct st_restore *restore, struct st_error **err) {
        _cleanup_close_ int fd = -EBADF;

        if (isempty(restore->req->log))
                return 0;
        fd = restore_open_output(restore, err);
        return fd < 0 ? fd : 0;
}

int restore_terminal(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        struct restore_context *context = restore_context(restore);
        _cleanup_close_ int slave = -EBADF;
        int r;

        if (!restore->criu->has_shell_job || !restore->criu->shell_job)
                return st_restore_proceed(next, restore, err);

        r = check_out(restore, err);
        if (r < 0)
                return r;
        if (st_operation_no_server(restore->operation) && isatty(STDIN_FILENO))
                use_terminal(context, (const int[]){ STDIN_FILENO, STDIN_FILENO, STDIN_FILENO });
        else {
                r = make_terminal(context->saved, &context->restore.terminal, &slave, err);
                if (r < 0)
                        return r;
                use_terminal(context, (const int[]){ slave, slave, slave });
        }
        return st_restore_proceed(next, restore, err);
}
