/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Regular files of other people: looked at, opened and given companions without ever following a symbolic link that
 * somebody planted, waiting for a FIFO, or writing over anything.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/** What identifies a file, and its state. */
struct plain_file {
        uint64_t dev, inode;
        struct timespec birth; /* zero: the file system does not know */
        struct timespec mtime;
        uint64_t size; /* bytes */
        mode_t mode;   /* st_mode */
        uid_t uid;
        gid_t gid;
        uint64_t links;
};

/**
 * @param dir_fd of a directory, or AT_FDCWD
 * @param path "": dir_fd itself, of any kind
 * @param flags 0, or AT_SYMLINK_NOFOLLOW
 * @return 0 or -errno
 */
int plain_file_look(int dir_fd, const char *path, int flags, struct plain_file *ret);

static inline bool time_equal(struct timespec a, struct timespec b) {
        return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/** Is it the same inode, of the same file system? Not whether its content is the same. */
bool plain_file_is_same(const struct plain_file *a, const struct plain_file *b);

/** Same inode, size and time of the last change of its content. */
bool plain_file_is_unchanged(const struct plain_file *a, const struct plain_file *b);

/**
 * Opens an absolute path without following any symbolic link in it; close-on-exec; never waits (O_NONBLOCK).
 *
 * @param flags of open(2); O_NOATIME is dropped where it is not allowed
 * @return the descriptor; -ELOOP: there is a symbolic link in the path; other -errno
 */
int plain_file_open(const char *path, int flags);

/** Opens the directory of an absolute path, in the same way. @param ret_name the last part, inside `path` */
int plain_file_open_directory(const char *path, const char **ret_name);

/** Opens a file of a directory that must be regular and none of those links. */
int plain_file_open_at(int dir_fd, const char *name, int flags);

/**
 * Copies bytes between files at explicit offsets, in the kernel where it can (sharing extents on some file systems).
 *
 * @return 0; -ENODATA when `from` ends before; -errno
 */
int plain_file_copy(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t length);

/** Gives `to` the owner, permissions and extended attributes (ACLs, labels) of `from`, as far as allowed. -errno */
int plain_file_copy_access(int from, int to);

/**
 * Makes a new file in a directory without a name where the file system can (O_TMPFILE), else with a hidden one.
 * plain_file_publish() gives it its name; else plain_file_discard() ends it.
 */
struct nameless_file {
        int fd, dir_fd;  /* dir_fd is the caller's */
        char hidden[64]; /* "": it has no name */
};
#define NAMELESS_FILE_NULL \
        { .fd = -EBADF, .dir_fd = -EBADF }

int plain_file_new(int dir_fd, struct nameless_file *ret);

/**
 * Syncs the new file and gives it the name BASE.SUFFIX, or BASE.SUFFIX-2, … when there is one already: never over
 * anything. A long BASE is cut.
 *
 * @param ret_name malloc'ed, the name in the directory
 */
int plain_file_publish(struct nameless_file *file, const char *base, const char *suffix, char **ret_name);

/** The same for another name (a hard link) of a file of the directory, which must be `expected`. */
int plain_file_link(int dir_fd, const char *name, const struct plain_file *expected, const char *suffix,
                    char **ret_name);

/** Closes it; removes it unless it was published. */
void plain_file_discard(struct nameless_file *file);

/**
 * Does another open file description, or a mapping, of the inode allow to write? Asked by a read lease (fcntl(2)),
 * which the kernel grants only when there is none.
 *
 * @param fd opened O_RDONLY; none of ours may be open for writing
 * @return 1, 0, or -errno (-EINVAL: the file system knows no leases)
 */
int plain_file_has_writers(int fd);
