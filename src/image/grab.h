/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Grabbing, the second way to capture: be CRIU's page server (`criu dump --page-server --ps-socket FD`), and copy the
 * memory ourselves, by several threads, where CRIU would pass each page through a pipe.
 *
 * CRIU asks whether a parent checkpoint exists. For the memory of processes we say yes, and stasis-grab.so makes CRIU
 * think that no page has changed since; so it sends where pages are, and their content only where it has to: memory
 * without PROT_READ, huge pages, the vDSO, shared memory. After the last one, the tasks still frozen, it waits for our
 * answer: then everything else is copied by process_vm_readv(2). All other images are files in a directory; we make
 * the pagemaps. What comes of it is what CRIU would have made itself (facts: page-xfer.c, mem.c of CRIU 4.2.1).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

#include "image/store.h"

struct grab;
struct grab_base;

/** A process of which the kernel knows what it has written: process/write_watch.h. */
struct grab_watch {
        pid_t pid;
        int fd; /* whoever made it closes it after the grab */
};

struct grab_options {
        pid_t root;                       /* of the tree */
        unsigned threads;                 /* that copy; 0: as many as cores */
        const struct grab_watch *watches; /* these begin anew; must outlive the grab */
        size_t n_watches;
        const struct grab_base
                *base; /* the checkpoint since which they have watched: what was not written is referred to
                                         there, not copied. NULL: all is copied */
        void (*progress)(uint64_t bytes, void *userdata); /* may be NULL; on the thread of the grab */
        void *userdata;
};

/** Can the memory of that process be copied, and has the kernel what CRIU needs? @return 0, -errno with err */
int grab_check(pid_t pid, struct st_error **err);

/**
 * What CRIU takes for the parent checkpoint, a directory with nothing but an inventory.img.
 *
 * @param directory is made, 0700
 */
int grab_make_parent(const char *directory, struct st_error **err);

/**
 * Starts the thread. The store belongs to it until grab_wait() or grab_finish().
 *
 * @param ret_socket CRIU's end, to be handed over; the caller's
 */
int grab_start(const struct grab_options *options, struct store *store, struct grab **ret, int *ret_socket,
               struct st_error **err);

/** Waits until all memory is in the store; asked at CRIU's post-dump hook. @return 0, -ETIMEDOUT, the thread's error */
int grab_wait(struct grab *grab, int timeout_ms, struct st_error **err);

/** After grab_wait(), the tasks still frozen: puts CRIU's files into the store, and makes the pagemaps. */
int grab_collect(struct grab *grab, const char *images_dir, struct st_error **err);

/** Ends the conversation at once: CRIU fails, rolls back, and the target runs on. Any thread; idempotent. */
void grab_abort(struct grab *grab);

struct grab_statistics {
        uint64_t pages;   /* copied by us, not sent by CRIU */
        uint64_t kept;    /* not copied: referred to */
        uint64_t copy_ns; /* from CRIU's last word to our answer */
        bool unwatched;   /* the watches do not know what is written from now on: nothing must refer to this one */
};

/** After grab_wait(). */
struct grab_statistics grab_statistics(const struct grab *grab);

/**
 * Waits for the thread's end (CRIU must have ended, or grab_abort() been called) and frees the grab.
 *
 * @return 0: all memory is in the store; -EPIPE, -ENOTCONN: CRIU ended before; other -errno with err
 */
int grab_finish(struct grab *grab, struct st_error **err);
