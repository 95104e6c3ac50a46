/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What keeps CRIU from dumping a tree, found before anything is frozen: the table is in dump_preflight.c, the checks
 * are in preflight_*.c. A check refuses only what CRIU 4.2.1 refuses, tried. What it cannot find out (the process
 * ended, a file of /proc that does not open) it passes over, and CRIU has the last word.
 */

#include "base/text.h"
#include "engine/dump_context.h"

/** All that was found, for one error. Zero-initialise; free with dump_problems_clear(). */
struct dump_problems {
        struct strv texts, hints;
        int number; /* errno of the first one */
};

/** A check adds what it finds; it may also switch on options of CRIU. */
typedef void (*dump_check)(struct st_dump *dump, struct dump_problems *problems);

/** Adds a problem. `hint` may be NULL; the same hint is given once. */
void dump_problem(struct dump_problems *problems, int number, const char *hint, const char *format, ...)
        ST_PRINTF(4, 5);

/** One error that names the first few problems, and all hints. @return its negative errno */
int dump_problems_error(const struct dump_problems *problems, struct st_error **err);

void dump_problems_clear(struct dump_problems *problems);

/** Are there plugins of CRIU? They know devices that it does not know itself: GPUs. */
bool preflight_criu_has_plugins(void);

/** Descriptors of io_uring. */
void preflight_io_uring(struct st_dump *dump, struct dump_problems *problems);
/** Threads that are traced or cannot be stopped, processes whose first thread has ended. */
void preflight_threads(struct st_dump *dump, struct dump_problems *problems);
/** Namespaces that only a part of the tree is in. */
void preflight_namespaces(struct st_dump *dump, struct dump_problems *problems);
/** Sockets of families and protocols that CRIU does not know. */
void preflight_sockets(struct st_dump *dump, struct dump_problems *problems);
/** Other descriptors: devices, anonymous inodes, pidfds, files of unreachable mounts. */
void preflight_descriptors(struct st_dump *dump, struct dump_problems *problems);
/**
 * Mappings of devices, of System V memory, of secret memory; deleted files that are mapped or open: raises the limit
 * for their size, and lets those with other names be found again.
 */
void preflight_mappings(struct st_dump *dump, struct dump_problems *problems);
