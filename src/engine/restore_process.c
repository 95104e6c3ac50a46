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
#include "engine/operation.h"
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

/** Of a restore to attach to: an end of the fresh pipe that the descriptor's number stands for, 0, 1 or 2. */
static int attachable_end(struct st_restore *restore, const struct process_fd *pipe, struct st_error **err) {
        struct job_stdio *stdio = &restore_context(restore)->stdio;
        int r, fd;

        if (stdio->job[0] < 0) {
                r = job_stdio_make_pipes(stdio, err);
                if (r < 0)
                        return r;
        }
        fd = fcntl(stdio->job[pipe->fd], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        return fd >= 0 ? fd : st_error_errno(err, errno, "cannot hand over descriptor %d", pipe->fd);
}

static bool is_standard(const struct process_fd *pipe) {
        return pipe->fd >= STDIN_FILENO && pipe->fd <= STDERR_FILENO && pipe->writable == (pipe->fd != STDIN_FILENO);
}

/**
 * What takes the place of a pipe to a process that was outside the tree: a fresh one to attach to, the file of --out,
 * or in the command line the same standard stream of ours.
 *
 * @return a descriptor of its own; -ENOENT when there is nothing, and the end is to lead nowhere; -errno with err
 */
static int replacement(struct st_restore *restore, const struct process_fd *pipe, struct st_error **err) {
        const char *out = restore->req->log;
        int fd;

        if (restore->req->attachable && is_standard(pipe))
                return attachable_end(restore, pipe, err);
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
        st_error_hint(err, "say with --out FILE where its output shall go, or attach to it (--attachable)");
        return -EINVAL;
}

int restore_inherit_files(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        const struct saved_state *saved = restore_context(restore)->saved;
        struct restore_context *context = restore_context(restore);
        size_t n = saved ? saved->n_pipes : 0;
        int r = 0;

        for (size_t i = 0; i < n && r >= 0; i++) {
                _cleanup_free_ char *key = xasprintf("pipe:[%llu]", (unsigned long long)saved->pipes[i].inode);

                if (restore_is_inherited(restore, key)) /* by another descriptor of the pipe */
                        continue;
                r = replacement(restore, &saved->pipes[i], err);
                if (r == -ENOENT)
                        r = 0;
                else if (r >= 0) {
                        GROW(context->opened, context->n_opened, context->room_opened);
                        context->opened[context->n_opened++] = r;
                        r = st_restore_inherit_fd(restore, r, key, err);
                }
        }
        return r < 0 ? r : st_restore_proceed(next, restore, err);
}

/** A fresh terminal for the job. Those whose number the tree needs are passed over. */
static int make_terminal(struct st_restore *restore, struct st_error **err) {
        struct restore_context *context = restore_context(restore);
        const struct saved_state *saved = context->saved;

        return job_stdio_make_terminal(restore->req->terminal, saved ? saved->ptys : NULL, saved ? saved->n_ptys : 0,
                                       &context->stdio, err);
}

/** We lead a session on a fresh terminal: what was a shell's job gets it in the place of the shell's. */
static int lead_session(struct st_restore *restore, struct st_error **err) {
        int r;

        if (getsid(0) != getpid() && setsid() < 0) {
                int number = errno;
                st_error_errno(err, number, "cannot lead a session for the job's terminal");
                st_error_hint(err, "run it from a terminal, or by 'setsid --wait'");
                return -number;
        }
        /* Its end, when the restore fails, must not be the end of the session's leader. */
        (void)signal(SIGHUP, SIG_IGN);
        r = make_terminal(restore, err);
        if (r >= 0 && ioctl(restore_context(restore)->stdio.job[0], TIOCSCTTY, 0) < 0)
                return st_error_errno(err, errno, "cannot make the terminal the job's own");
        return r;
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

        /* A job comes back also without its log. */
        if (isempty(restore->req->log) || operation_job(restore->operation))
                return 0;
        fd = restore_open_output(restore, err);
        return fd < 0 ? fd : 0;
}

/** Terminals whose master was outside the tree, which had its own session: one fresh terminal takes their place. */
static int inherit_terminals(struct st_restore *restore, struct st_error **err) {
        struct restore_context *context = restore_context(restore);
        const struct strv *keys = &context->saved->terminals;

        for (size_t i = 0; i < keys->n; i++) {
                int fd, r;

                if (restore_is_inherited(restore, keys->items[i])) /* the caller's */
                        continue;
                r = context->stdio.job[0] < 0 ? make_terminal(restore, err) : 0;
                if (r < 0)
                        return r;
                fd = fcntl(context->stdio.job[0], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
                if (fd < 0)
                        return st_error_errno(err, errno, "cannot hand over the job's terminal");
                GROW(context->opened, context->n_opened, context->room_opened);
                context->opened[context->n_opened++] = fd;
                r = st_restore_inherit_fd(restore, fd, keys->items[i], err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool is_shell_job(const struct st_restore *restore) {
        return restore->criu->has_shell_job && restore->criu->shell_job;
}

int restore_terminal(struct st_restore *restore, struct st_restore_next *next, struct st_error **err) {
        struct restore_context *context = restore_context(restore);
        bool external = context->saved && context->saved->terminals.n > 0;
        int r;

        if (!is_shell_job(restore) && !external)
                return st_restore_proceed(next, restore, err);

        r = check_out(restore, err);
        if (r < 0)
                return r;
        if (external)
                r = inherit_terminals(restore, err);
        else if (st_operation_no_server(restore->operation) && isatty(STDIN_FILENO))
                use_terminal(context, (const int[]){ STDIN_FILENO, STDIN_FILENO, STDIN_FILENO });
        else {
                r = lead_session(restore, err);
                if (r >= 0)
                        use_terminal(context, context->stdio.job);
        }
        if (r >= 0)
                r = st_restore_proceed(next, restore, err);
        if (r >= 0 && context->stdio.terminal) /* CRIU has set what it was at the dump */
                job_stdio_resize(context->stdio.ours.terminal, restore->req->terminal);
        return r;
}
