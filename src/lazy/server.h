/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Be the lazy-pages daemon of `criu restore --lazy-pages`: CRIU hands over a userfaultfd(2) for each process, and the
 * pages of the plan are put into their memory from threads of ours, as many as there are cores. A frame of the image is
 * read and checked once for all of its pages; those that somebody waits for come first.
 *
 * The descriptors must not be closed before all is in, or the processes are dead, or before they ever ran: whatever is
 * missing then reads as zeros.
 *
 * Not kept: that parent and child share pages they have not written to since fork(2). Not seen: MADV_WIPEONFORK
 * (madvise(2)) that is set while pages are still missing, and a fork before all of them are in.
 */

#include <stdbool.h>
#include <stdint.h>

#include <stasis/error.h>

#include "image/native.h"
#include "lazy/plan.h"

/** The name of the socket in CRIU's work directory: LAZY_PAGES_SOCK_NAME of its criu/uffd.c. */
#define LAZY_SOCKET "lazy-pages.socket"

struct lazy;

enum lazy_state {
        LAZY_RUNNING,
        LAZY_COMPLETE, /* all that comes later is in */
        LAZY_BROKEN,   /* CRIU has closed the connection before it was done: the restore has failed */
        LAZY_FAILED,   /* for a reason of ours: lazy_finish() tells */
};

struct lazy_options {
        const struct lazy_plan *plan; /* must outlive it, and the image with it */
        int listener;                 /* at LAZY_SOCKET; taken */
        unsigned threads;             /* 0: as many as there are cores */
        /** A descriptor came, before its process ran. On a thread; may block; not to be closed. May be NULL */
        void (*on_descriptor)(int uffd, void *userdata);
        void *userdata;
};

/** Listens at LAZY_SOCKET in CRIU's work directory; one that is there is removed. @return the descriptor */
int lazy_listen(const char *work_dir, struct st_error **err);

/** Starts it; whatever comes is served at once. */
int lazy_start(const struct lazy_options *options, struct lazy **ret, struct st_error **err);

/** Polls readable when the state is no longer LAZY_RUNNING, or when CRIU is done; lazy_poll() clears that. */
int lazy_fd(const struct lazy *lazy);

/** @param ret_done may be NULL: has CRIU said that the restore is over? */
enum lazy_state lazy_poll(struct lazy *lazy, bool *ret_done);

/** From now on memory that is not there is not to be waited for: all processes have all of their mappings. */
void lazy_set_mapped(struct lazy *lazy);

/** Pages that are in, and all of the plan. */
uint64_t lazy_pages(const struct lazy *lazy, uint64_t *ret_total);

/**
 * Waits until all is in.
 *
 * @param stall_ms without any page in that time: -ETIMEDOUT
 * @return 0; -ECANCELED when cancel_fd polls readable; -EPIPE when CRIU is gone; -EBADMSG: damaged; other -errno
 */
int lazy_wait_complete(struct lazy *lazy, int stall_ms, int cancel_fd, struct st_error **err);

/** Copies the reason of LAZY_FAILED. @return its number */
int lazy_failure(struct lazy *lazy, struct st_error **err);

/** Are all processes gone? What has not come is then nobody's. */
bool lazy_all_gone(struct lazy *lazy);

/** Calls on_descriptor again, for all that there are now. */
void lazy_each_descriptor(struct lazy *lazy);

/** Stops putting pages in; nothing is closed. Any thread; idempotent. */
void lazy_abort(struct lazy *lazy);

/** Waits for the threads, closes the descriptors, frees. @return 0, or the failure of the state LAZY_FAILED */
int lazy_finish(struct lazy *lazy, struct st_error **err);
