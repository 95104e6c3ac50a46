/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The process that serves the memory of what `restore --lazy` started, and outlives the restore: this program again,
 * with the word "serve-pages" (lazy_serve.c). It is nobody's child: not the restore's, which becomes the supervisor of
 * what runs. Its guard (lazy_guard.c) holds duplicates of its descriptors, and ends what runs when it dies: without
 * both, missing pages would read as zeros.
 */

#include "engine/restore_context.h"
#include "supervisor/memory.h"

struct lazy_process;

/**
 * Starts it. Sets the context's memory_fd and memory_record: until all of its memory is in, or it has ended, that must
 * be looked after.
 *
 * @param listener for CRIU (lazy/server.h)
 */
int lazy_process_start(struct restore_context *context, int listener, struct lazy_process **ret, struct st_error **err);

/** Polls readable when lazy_process_receive() has something. */
int lazy_process_fd(const struct lazy_process *process);

/** All processes stand and are to run: may they? */
int lazy_process_ask(struct lazy_process *process, struct st_error **err);

/** @return 1: they may; a failure with err: they must not, or must not go on */
int lazy_process_receive(struct lazy_process *process, struct st_error **err);

/** They run. @param root PID of their first */
int lazy_process_let_go(struct lazy_process *process, pid_t root, struct st_error **err);

/** Ends the connection; when nothing runs, that ends it. NULL is fine. @return NULL */
struct lazy_process *lazy_process_free(struct lazy_process *process);

/** The process itself: `stasis serve-pages …`, and its guard, `stasis guard-pages …`. @return exit code */
int lazy_serve_main(int argc, char **argv);
int lazy_guard_main(int argc, char **argv);

/** What both do first: they are not ended by signals but SIGKILL, and may have many descriptors. */
void lazy_process_prepare(void);

/** Its descriptors. The guard's socket has the number of the control's; it has no listener. */
enum { LAZY_CONTROL_FD = 3, LAZY_LOG_FD = 4, LAZY_LISTENER_FD = 5 };

/** Its words, after the program's name and the verb. */
enum {
        LAZY_ARG_IMAGE = 2,  /* path of the checkpoint */
        LAZY_ARG_JOB,        /* name of the job; "" */
        LAZY_ARG_SUPERVISOR, /* PID of the restore, later the supervisor */
        LAZY_ARG_START,      /* its start time */
        LAZY_ARG_EXTRA,      /* server: ID of the image; guard: path of the record */
        LAZY_ARGS,
};
/* Its end of the socket into which all descriptors go, so that somebody holds them (supervisor/memory.h). */
#define LAZY_HOLDER_FD 6

#define LAZY_SERVE "serve-pages"
#define LAZY_SERVE_DETACHED "serve-pages-on"
#define LAZY_GUARD MEMORY_GUARD
