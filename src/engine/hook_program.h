/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A program of the user that is run around an operation: may it be run, and running it. See docs/hooks.md. */

#include <sys/types.h>

#include <stasis/error.h>

/**
 * May the daemon run it as root? Only if nobody but root and the caller can put anything else in its place: file and
 * directories on the way to it, links resolved, belong to one of them and are writable by nobody else (a directory
 * also if it is sticky: others cannot rename what is not theirs).
 *
 * @param path absolute
 * @return 0; -EPERM, -ENOENT, -EINVAL, -EACCES, … with err
 */
int hook_program_check(const char *path, uid_t caller, struct st_error **err);

struct hook_program {
        const char *when; /* "pre-dump", for messages */
        const char *path;
        char *const *environment;
        int timeout_ms;
        int cancel_fd; /* polls readable when it is to be ended at once; negative: it may finish */
};

/**
 * Runs it to its end: cwd /, a session of its own, standard input /dev/null, no other descriptors. What it prints is
 * logged line by line. At the time limit its whole process group is killed.
 *
 * @return 0; -EBUSY when it failed (the last line it printed is in err); -ETIMEDOUT; -ECANCELED; …
 */
int hook_program_run(const struct hook_program *hook, struct st_error **err);
