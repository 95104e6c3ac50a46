/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which pages of a process were written since they were looked at last: userfaultfd(2) in its asynchronous mode of
 * write protection, and PAGEMAP_SCAN; Linux 6.7 (userfaultfd.rst and pagemap.rst in the kernel's
 * Documentation/admin-guide/mm).
 *
 * A userfaultfd belongs to the memory of the process that made it, so the process itself is made to make one. It costs
 * the process one fault, without anybody's help, for the first write to each page after it was looked at. When the last
 * descriptor is closed the kernel stops watching.
 *
 * Only for private anonymous memory: of a file's private mapping what was thrown away (madvise(2)) is still marked.
 *
 * A mapping belongs to one userfaultfd only: what could be registered is ours alone. Whatever the kernel does not know
 * to be unwritten counts as written: new mappings, moved ones, what was thrown away, what a child has.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

/**
 * Makes a process make a userfaultfd for itself, and takes it: the process stands still for some hundred microseconds.
 * It is traced by a thread that ends here, so that it runs on whatever happens. The vDSO's system call instruction is
 * used: no byte of its memory changes.
 *
 * @return the descriptor, close-on-exec, ready for the functions below; -EBUSY: it is traced, or does not stop (frozen,
 * in the middle of a system call that cannot be interrupted); -EOPNOTSUPP: the kernel cannot; other -errno, with err
 */
int write_watch_take(pid_t pid, struct st_error **err);

/** Is the memory gone, for which it was made? */
bool write_watch_is_gone(int watch);

/**
 * Lets a mapping be watched. All of it counts as written until it is looked at, unless it was watched already.
 *
 * @param pagemap_fd of /proc/PID/pagemap of a process that stands still, from which it is known whether it was;
 * negative: the process runs, and what was known of the mapping is forgotten
 * @return 0; -EBUSY: it is somebody else's; -ENOTRECOVERABLE: what is told to be written from now on cannot be trusted
 * until it is registered anew; other -errno: it is not watched
 */
int write_watch_register(int watch, int pagemap_fd, uint64_t start, uint64_t end);

/** A piece of memory that was written. @return 0; negative: ends the scan */
typedef int (*write_watch_fn)(uint64_t start, uint64_t end, void *userdata);

/**
 * Looks at a mapping that was registered, and begins anew: tells which of its pages that are there were written, in
 * ascending order, and lets them count as unwritten from now on. The process must stand still, or what is told may have
 * grown meanwhile; no write is ever missed.
 *
 * @param pagemap_fd of /proc/PID/pagemap
 * @param written NULL: nobody wants to know
 * @return 0, -EPERM: it is not registered; other -errno; what `written` returned
 */
int write_watch_scan(int pagemap_fd, uint64_t start, uint64_t end, write_watch_fn written, void *userdata);
