/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The kernel's interface to page faults of other processes: userfaultfd(2), ioctl_userfaultfd(2). The descriptors are
 * CRIU's: non-blocking, pages that are missing are reported, and fork, mremap, munmap and madvise, too. While such a
 * change is on its way pages cannot be put in (-EAGAIN) until its event was read. Any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <stasis/error.h>

/** Can this process have what CRIU needs for it? @return 0; -errno with err: refused (sysctl, seccomp), too old */
int uffd_probe(struct st_error **err);

enum uffd_kind {
        UFFD_FAULT,  /* somebody waits for the page at `start` */
        UFFD_FORK,   /* a child: `child` is its descriptor, to be taken */
        UFFD_REMAP,  /* start..end is now at `to` */
        UFFD_REMOVE, /* start..end is gone: unmapped, or what was in it thrown away */
        UFFD_OTHER,
};

struct uffd_event {
        enum uffd_kind kind;
        uint64_t start, end, to;
        int child;
};

/** Reads one event, without waiting. @return 1; 0: there is none; -errno */
int uffd_read(int uffd, struct uffd_event *ret);

/**
 * Puts pages into missing ones and wakes who waits for them.
 *
 * @param size bytes, of whole pages; all in one mapping, else -ENOENT
 * @param ret_done bytes that are in, also after a failure
 * @return 0; -EEXIST: the next page is there already; -EAGAIN: read the events first; -ENOENT: not (or not yet) such
 * memory there; -ESRCH: the process is gone; other -errno
 */
int uffd_copy(int uffd, uint64_t to, const void *from, size_t size, size_t *ret_done);

/** The same with zeros. */
int uffd_zero(int uffd, uint64_t at, size_t size, size_t *ret_done);

/** Wakes who waits there; when the page is still missing they ask again. */
void uffd_wake(int uffd, uint64_t at, size_t size);

/** Is the process gone, to whose memory this belongs? Changes nothing. */
bool uffd_is_gone(int uffd);
