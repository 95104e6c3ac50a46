/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Can a checkpoint be restored here? The table of checks is in restore_preflight.c, the checks are in preflight_*.c.
 * They look at the checkpoint and at this machine, and change nothing.
 */

#include "engine/inspect_images.h"
#include "engine/restore_context.h"
#include "engine/restore_files.h"

struct preflight {
        struct st_restore *restore;
        const struct saved_state *saved; /* NULL: the checkpoint was not made by stasis */
        struct inspect_images *images;   /* CRIU's; NULL: not read, by the checks that run at every restore */
        const char *check;               /* name of the check that runs */
        struct restore_findings findings;
        char *summary; /* what the check tells when it found nothing; NULL: nothing special */
        int number;    /* errno of the first problem */
};

/**
 * One check. It adds what it finds; what it cannot find out it passes over.
 *
 * @return 0, also with findings; a negative errno with err when it could not look (a cancelled operation, images that
 *         cannot be read)
 */
typedef int (*preflight_fn)(struct preflight *preflight, struct st_error **err);

/** Adds a finding. @param subject, hint may be NULL @param number errno that a problem makes the restore fail with */
void preflight_find(struct preflight *preflight, Daemon__FindingLevel level, int number, const char *subject,
                    const char *hint, const char *format, ...) ST_PRINTF(6, 7);

/** What was looked at, for a check that finds nothing. */
void preflight_summary(struct preflight *preflight, const char *format, ...) ST_PRINTF(2, 3);

/** The checkpoint's bytes against its manifest. Reads all of it. */
int preflight_image(struct preflight *preflight, struct st_error **err);
/** Architecture, CPU features, kernel. */
int preflight_machine(struct preflight *preflight, struct st_error **err);
/** CRIU's version, and whether it works. */
int preflight_criu(struct preflight *preflight, struct st_error **err);
/** PIDs and thread IDs that others have, also as process group or session. The only one that waits, for zombies. */
int preflight_pids(struct preflight *preflight, struct st_error **err);
/** Indices of terminals. */
int preflight_terminals(struct preflight *preflight, struct st_error **err);
/** Regular files. */
int preflight_files(struct preflight *preflight, struct st_error **err);
/** Programs and libraries: build IDs. */
int preflight_executables(struct preflight *preflight, struct st_error **err);
/** Directories and device nodes. */
int preflight_directories(struct preflight *preflight, struct st_error **err);
/** Mounts that the open files were on. */
int preflight_mounts(struct preflight *preflight, struct st_error **err);
/** Locks on files that others hold now. */
int preflight_locks(struct preflight *preflight, struct st_error **err);
/** Addresses and ports of TCP and UDP. */
int preflight_addresses(struct preflight *preflight, struct st_error **err);
/** Names of UNIX sockets. */
int preflight_unix(struct preflight *preflight, struct st_error **err);
/** Memory there and needed. */
int preflight_memory(struct preflight *preflight, struct st_error **err);
/** How the memory is read: by CRIU, by us, while it runs. Here because the adapter knows: restore_lazy.c. */
int preflight_reading(struct preflight *preflight, struct st_error **err);
/** Resource limits that cannot be raised again. */
int preflight_limits(struct preflight *preflight, struct st_error **err);
/** Profiles of security modules. */
int preflight_security(struct preflight *preflight, struct st_error **err);
