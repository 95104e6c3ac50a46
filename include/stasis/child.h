/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The one way for a plugin to start a program: fork+exec without stray descriptors, with an empty signal mask and
 * default dispositions, in a session of its own. Any thread. Since ABI 1.1.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <stasis/error.h>

struct st_child_fd {
        int fd;     /* of the caller; negative: /dev/null */
        int number; /* in the child */
};

struct st_child {
        size_t size;                   /* sizeof(struct st_child) */
        const char *path;              /* looked up in PATH when it has no slash */
        char *const *argv;             /* NULL-terminated */
        char *const *environment;      /* NULL: the caller's */
        const char *directory;         /* working directory; NULL: the caller's */
        const struct st_child_fd *fds; /* 0, 1 and 2 are /dev/null unless named here */
        size_t n_fds;
        bool keep_stdio;   /* the caller's 0, 1 and 2 */
        bool keep_session; /* the caller's session: it can be its terminal's foreground program */
        bool dumps;        /* it lets CRIU dump, which then has what it lacks on this machine, as stasis' own has */
};

/**
 * Starts a program and waits until it has exec'ed: one that cannot be started is an error here.
 *
 * @param ret_pidfd may be NULL; a pidfd of the child, close-on-exec, the caller's
 * @return the PID, to be waited for with st_child_wait(); or a negative errno with err
 */
ST_PUBLIC pid_t st_child_start(const struct st_child *child, int *ret_pidfd, struct st_error **err);

/** @return the wait status (waitpid(2)), or -errno */
ST_PUBLIC int st_child_wait(pid_t pid, int *ret_status);

/**
 * Runs a program to its end and takes what it prints.
 *
 * @param timeout_ms after it the child's group is killed: -ETIMEDOUT; negative: no limit
 * @param cancel_fd polls readable: the same, -ECANCELED; -EBADF: nothing cancels it
 * @param ret_output may be NULL; stdout and stderr (less what `fds` names) together, malloc'ed, at most 1 MiB of it
 * @return the exit code (128 + N for a signal), or a negative errno with err
 */
ST_PUBLIC int st_child_run(const struct st_child *child, int timeout_ms, int cancel_fd, char **ret_output,
                           struct st_error **err);
