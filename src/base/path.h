/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Paths: of the user's, and of what belongs to this installation or build tree. */

#include <stdbool.h>
#include <stasis/error.h>

/** a/b, with exactly one slash between; malloc'ed. */
char *path_join(const char *a, const char *b);

/** Makes a path absolute (by the current directory) without empty, . and .. parts, not looking at links; malloc'ed. */
char *path_absolute(const char *path);

/** @return the directory of a path ("." when it has none), malloc'ed */
char *path_directory(const char *path);

/** @return the last part of a path, inside it */
const char *path_name(const char *path);

/** Is it a single file name: not empty, no slash, not . or .., at most 255 bytes, no control characters? */
bool path_is_name(const char *name);

/** The path of the running executable, resolved once at the first call; never NULL. */
const char *path_self(void);

/** Does this executable run from its build tree (beside it lies "plugins/", and its directory holds build.ninja)? */
bool path_in_build_tree(void);

/**
 * A program that belongs to stasis: stasis-supervisor, stasis-hook. In the build tree beside the executable, else in
 * the installed libexec directory. malloc'ed.
 */
char *path_libexec(const char *program);

/** Where plugins are by default: beside the executable in the build tree, else <libdir>/stasis/plugins. malloc'ed. */
char *path_plugins(void);

/** Where large temporary files go: TMPDIR, or /var/tmp, which unlike /tmp is not in memory. */
const char *path_temporary_dir(void);

/** PATH_RUN_DIR; STASIS_RUN_DIR overrides it (tests run several daemons). */
#define PATH_RUN_DIR "/run/stasis"
const char *path_run_dir(void);

/** /var/log/stasis; STASIS_LOG_DIR overrides it: the logs of failed operations are kept there. */
const char *path_log_dir(void);
