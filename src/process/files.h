/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The open descriptors of a process. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <stasis/error.h>

enum file_kind {
        FILE_PLAIN, /* whatever has no kind of its own here; also FIFOs with a path, pidfds, eventfds */
        FILE_PIPE,  /* an end of a pipe without a path */
        FILE_SOCKET,
        FILE_TERMINAL, /* also the master of a pty */
        FILE_IO_URING,
};

struct file {
        int fd;
        enum file_kind kind;
        const char *link;          /* as /proc/PID/fd shows it, not sanitised */
        uint64_t inode, dev, rdev; /* 0 where unknown */
        uint64_t mount_id;         /* 0: unknown */
        bool readable, writable;   /* neither for sockets */
};

enum files_detail {
        FILES_KINDS, /* regular files and directories are left out */
        FILES_ALL,
};

/** Called for each descriptor; the file is valid until it returns. A negative result ends the iteration. */
typedef int (*files_fn)(const struct file *file, void *userdata);

/**
 * Goes through the descriptors of an open /proc/PID (see proc_open()). Those that are closed meanwhile are left out.
 *
 * @return 0; -EACCES or -EPERM when the process is somebody else's; -ESRCH; another -errno; what `call` returned
 */
int files_each(int proc_fd, enum files_detail detail, files_fn call, void *userdata);

/** Is a character device with that number a terminal? */
bool files_is_terminal(uint64_t rdev);

/** "r", "w", "rw"; "" for what can neither be read nor written. */
const char *files_mode_text(const struct file *file);
