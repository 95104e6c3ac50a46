/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Files of the target that changed since its checkpoint, before a restore. CRIU refuses a file of another size than it
 * had ("bad size"); others it takes as they are.
 */

#include <daemon/daemon.pb-c.h>
#include <stasis/restore.h>

/** What was found, one entry for each file that is not as it was; free with restore_findings_clear(). */
struct restore_findings {
        Daemon__Finding *
                *items; /* Check "files", Level, Subject: the path, Text: how it differs, Hint: what mends it */
        size_t n, room;
};

/**
 * Looks at the files, changing nothing: after the adapter "reload state". What it finds depends on RestoreReq.Files:
 * what the rollback would mend, or what may be kept, is a warning instead of a problem.
 *
 * @return 0, also with findings; a negative errno with err: the checkpoint or this machine could not be read
 */
int restore_files_examine(struct st_restore *restore, struct restore_findings *findings, struct st_error **err);

/** Adds an entry; all texts are copied. @param subject, hint may be NULL */
void restore_findings_add(struct restore_findings *findings, const char *check, Daemon__FindingLevel level,
                          const char *subject, const char *text, const char *hint);

void restore_findings_clear(struct restore_findings *findings);
#define _cleanup_findings_ __attribute__((cleanup(restore_findings_clear)))
