/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Descriptors and files: reads and writes that finish, files replaced atomically, UNIX sockets. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <stasis/error.h>

/** Reads exactly n bytes. @return 0; -ENODATA at an early end; -errno */
int io_read_full(int fd, void *buffer, size_t n);

/** Reads up to n bytes from a place of a file. @return how many, fewer at the end of the file only; -errno */
ssize_t io_read_at(int fd, void *buffer, size_t n, uint64_t offset);

/** Writes all n bytes; waits by poll when the descriptor is non-blocking. @return 0 or -errno */
int io_write_full(int fd, const void *buffer, size_t n);

/**
 * Reads a whole file, also one of /proc whose size is not known. A NUL is put behind the content.
 *
 * @param limit more bytes than this: -EFBIG
 * @param ret malloc'ed
 * @return 0 or -errno
 */
int io_read_file(int dir_fd, const char *path, size_t limit, char **ret, size_t *ret_size);

/** The first line of a small file (4 KiB), without its end, any bytes; malloc'ed. @return NULL: not readable */
char *io_read_line(const char *path);

/** Replaces a file atomically (temporary name, rename); sync: fsync file and directory too. @return 0 or -errno */
int io_replace_file(const char *path, const void *data, size_t size, mode_t mode, bool sync);

/**
 * Writes a file that the user has named: replaces a regular one, as io_replace_file() does; writes into what is
 * something else (a device, a FIFO that somebody reads, /dev/stdout), which a rename would destroy. A symbolic link is
 * followed when it is root's or the caller's own, else replaced.
 *
 * @return 1 when it was written into, 0 when it was made or replaced, -errno
 */
int io_put_file(const char *path, const void *data, size_t size, mode_t mode);

/** Could io_put_file() write this? To be asked before long work. @return 0 or -errno */
int io_can_put_file(const char *path);

/** mkdir -p. @return 0 or -errno */
int io_make_directories(const char *path, mode_t mode);

/** The same; those that are made get an owner (-1: ours). Of what stands there already nothing is changed. */
int io_make_directories_for(const char *path, mode_t mode, uid_t uid, gid_t gid);

/**
 * rm -rf of a directory or file, not following links; a file system mounted below it is left alone (-EXDEV). What is
 * not there is fine. Goes on after a failure, and returns the first.
 *
 * @return 0 or -errno
 */
int io_remove_tree(const char *path);

/** A connected pair of SOCK_STREAM sockets, close-on-exec. */
int io_socketpair(int fds[2]);

/** Connects to a UNIX stream socket. @return the descriptor or -errno */
int io_connect_unix(const char *path);

/**
 * Listens on a UNIX stream socket with the given mode, never for a moment with more. Refuses a path over 107 bytes. The
 * socket of a process that has died is replaced; -EADDRINUSE when somebody listens, or when the file is no socket.
 *
 * @return the descriptor or -errno
 */
int io_listen_unix(const char *path, mode_t mode, int backlog);

/** Accepts one connection, close-on-exec. @return descriptor or -errno */
int io_accept(int fd);

/** Sends one byte with a descriptor (SCM_RIGHTS). */
int io_send_fd(int socket, int fd);

/**
 * Receives exactly one byte and its descriptor, close-on-exec.
 *
 * @return the descriptor; -ENODATA at the end; -EPROTO when none or several came with the byte; -errno
 */
int io_receive_fd(int socket);

/** An anonymous sealed-when-asked memory file with the given content, at offset 0. @return descriptor or -errno */
int io_memfd(const char *name, const void *data, size_t size);

int io_set_nonblocking(int fd, bool on);
int io_set_cloexec(int fd, bool on);

/**
 * Is what is open still what has that name? Who locks a file asks it once it has the lock: the name may have gone to
 * another file meanwhile.
 *
 * @param dir_fd of a relative path, or AT_FDCWD
 * @param flags of fstatat(2): 0 when open(2) followed links, AT_SYMLINK_NOFOLLOW after O_NOFOLLOW
 */
bool io_is_at(int fd, int dir_fd, const char *path, int flags);

/** Syncs the directory that a path is in: a new name in it is then on the disk. @return 0 or -errno */
int io_sync_directory_of(const char *path);
