/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Preloaded into stasis (LD_PRELOAD) by the tests: makes the n-th call of a function fail, or kills the process there.
 *
 *     STASIS_FAULT=recvmsg:3:kill       the third file name of CRIU's stream; SIGKILL
 *     STASIS_FAULT=renameat2:1:ENOSPC   fails with that errno
 *     STASIS_FAULT=write:7:EIO
 *     STASIS_FAULT=recvmsg:5:pause      the call takes three seconds
 *     STASIS_FAULT=pread:9:hang         counts reads of at least 64 KiB; the call takes a minute
 *     STASIS_FAULT=read:0:slow          the 0th is every call; each takes 10 ms longer
 *     STASIS_FAULT=disk:4:ENOSPC        the fourth call that may need room below the directory STASIS_FAULT_DISK, and
 *                                       all after it
 *
 * Only a worker (its second argument is "worker") is hit; or any stasis with STASIS_FAULT_ANY=1, or a program by its
 * name with STASIS_FAULT_PROGRAM=stasis-supervisor. recvmsg counts the messages that bring a descriptor, i.e. the files
 * of the stream. "renameat2:1:after" kills after the call.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static const struct {
        const char *name;
        int number;
} errors[] = { { "ENOSPC", ENOSPC }, { "EIO", EIO }, { "EMFILE", EMFILE }, { "ENOMEM", ENOMEM } };

static char function[32], action[16]; /* function is empty: nothing is to fail */
static unsigned nth;
static atomic_uint calls;
static const char *disk; /* NULL: none */
static size_t disk_length;

static bool is_worker(void) {
        char line[256];
        int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);

        if (fd >= 0)
                close(fd);
        if (n <= 0)
                return false;
        line[n] = '\0';
        return (size_t)n > strlen(line) + 1 && strcmp(line + strlen(line) + 1, "worker") == 0;
}

__attribute__((constructor)) static void setup(void) {
        const char *fault = getenv("STASIS_FAULT");

        const char *program = getenv("STASIS_FAULT_PROGRAM");

        if (!fault || (program ? strcmp(program, program_invocation_short_name) != 0
                               : !getenv("STASIS_FAULT_ANY") && !is_worker()))
                return;
        if (sscanf(fault, "%31[^:]:%u:%15s", function, &nth, action) != 3)
                function[0] = '\0';
        disk = strcmp(function, "disk") == 0 ? getenv("STASIS_FAULT_DISK") : NULL;
        disk_length = disk ? strlen(disk) : 0;
}

/** Counts a call. @return 0 to go on, 1 to go on and kill after it, or the errno to fail with */
static int fault(const char *name) {
        /* AddressSanitizer makes directories before its strcmp() works. */
        if (function[0] == '\0' || strcmp(function, name) != 0)
                return 0;
        unsigned call = nth == 0 ? 0 : atomic_fetch_add(&calls, 1) + 1;
        if (call != nth && !(disk && call > nth)) /* what is full stays full */
                return 0;
        if (strcmp(action, "kill") == 0)
                raise(SIGKILL);
        if (strcmp(action, "pause") == 0)
                sleep(3);
        if (strcmp(action, "hang") == 0)
                sleep(60);
        if (strcmp(action, "slow") == 0)
                usleep(10000);
        if (strcmp(action, "after") == 0)
                return -1;
        for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
                if (strcmp(action, errors[i].name) == 0)
                        return errors[i].number;
        return 0;
}

/** A call that may need room where a path is. @param name what else it counts as, NULL: nothing */
static int fault_path(const char *name, const char *path) {
        int number = name ? fault(name) : 0;
        if (number != 0 || !disk || strncmp(path, disk, disk_length) != 0)
                return number;
        return path[disk_length] == '/' || path[disk_length] == '\0' ? fault("disk") : 0;
}

/** The same, where a file is that is open. */
static int fault_fd(const char *name, int fd) {
        char link[64], path[4096];
        int saved = errno;
        ssize_t n = -1;
        if (disk) {
                snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
                n = readlink(link, path, sizeof(path) - 1);
        }
        path[n < 0 ? 0 : n] = '\0';
        errno = saved;
        return fault_path(name, path);
}

#define REAL(type, name) __extension__(type) dlsym(RTLD_NEXT, name)

/** Runs the real call unless it is to fail. */
#define WRAP(name, call) WRAP_IF(fault(name), call)

#define WRAP_IF(fault, call)                 \
        do {                                 \
                int number = (fault);        \
                if (number > 0) {            \
                        errno = number;      \
                        return -1;           \
                }                            \
                __auto_type result = (call); \
                if (number < 0)              \
                        raise(SIGKILL);      \
                return result;               \
        } while (0)

int renameat2(int old_dir, const char *old_path, int new_dir, const char *new_path, unsigned flags) {
        int (*real)(int, const char *, int, const char *, unsigned) =
                REAL(int (*)(int, const char *, int, const char *, unsigned), "renameat2");
        WRAP_IF(fault_path("renameat2", new_path), real(old_dir, old_path, new_dir, new_path, flags));
}

int linkat(int old_dir, const char *old_path, int new_dir, const char *new_path, int flags) {
        int (*real)(int, const char *, int, const char *, int) =
                REAL(int (*)(int, const char *, int, const char *, int), "linkat");
        WRAP("linkat", real(old_dir, old_path, new_dir, new_path, flags));
}

int ftruncate(int fd, off_t length) {
        int (*real)(int, off_t) = REAL(int (*)(int, off_t), "ftruncate");
        WRAP_IF(fault_fd("ftruncate", fd), real(fd, length));
}

int futimens(int fd, const struct timespec times[2]) {
        int (*real)(int, const struct timespec[2]) = REAL(int (*)(int, const struct timespec[2]), "futimens");
        WRAP("futimens", real(fd, times));
}

int unlinkat(int dir, const char *path, int flags) {
        int (*real)(int, const char *, int) = REAL(int (*)(int, const char *, int), "unlinkat");
        WRAP("unlinkat", real(dir, path, flags));
}

int fsync(int fd) {
        int (*real)(int) = REAL(int (*)(int), "fsync");
        WRAP_IF(fault_fd("fsync", fd), real(fd));
}

ssize_t write(int fd, const void *buffer, size_t n) {
        ssize_t (*real)(int, const void *, size_t) = REAL(ssize_t(*)(int, const void *, size_t), "write");
        WRAP_IF(fault_fd("write", fd), real(fd, buffer, n));
}

ssize_t pwrite64(int fd, const void *buffer, size_t n, off64_t offset) {
        ssize_t (*real)(int, const void *, size_t, off64_t) =
                REAL(ssize_t(*)(int, const void *, size_t, off64_t), "pwrite64");
        WRAP_IF(fault_fd("pwrite", fd), real(fd, buffer, n, offset));
}

int rename(const char *old_path, const char *new_path) {
        int (*real)(const char *, const char *) = REAL(int (*)(const char *, const char *), "rename");
        WRAP_IF(fault_path("rename", new_path), real(old_path, new_path));
}

int mkdir(const char *path, mode_t mode) {
        int (*real)(const char *, mode_t) = REAL(int (*)(const char *, mode_t), "mkdir");
        WRAP_IF(fault_path("mkdir", path), real(path, mode));
}

/* Of a path that is not relative to anything: so new files are opened. */
int open64(const char *path, int flags, ...) {
        int (*real)(const char *, int, ...) = REAL(int (*)(const char *, int, ...), "open64");
        mode_t mode = 0;
        bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
        va_list arguments;
        va_start(arguments, flags);
        if (creates)
                mode = va_arg(arguments, mode_t);
        va_end(arguments);
        WRAP_IF(creates ? fault_path("create", path) : 0, real(path, flags, mode));
}

ssize_t read(int fd, void *buffer, size_t n) {
        ssize_t (*real)(int, void *, size_t) = REAL(ssize_t(*)(int, void *, size_t), "read");
        WRAP("read", real(fd, buffer, n));
}

/* Only large ones count: what is read of a checkpoint, not of a database. */
ssize_t pread64(int fd, void *buffer, size_t n, off64_t offset) {
        ssize_t (*real)(int, void *, size_t, off64_t) = REAL(ssize_t(*)(int, void *, size_t, off64_t), "pread64");
        if (n < 65536)
                return real(fd, buffer, n, offset);
        WRAP("pread", real(fd, buffer, n, offset));
}

/* What pread(2) becomes with _FORTIFY_SOURCE, where the buffer's size is known. */
ssize_t __pread64_chk(int fd, void *buffer, size_t n, off64_t offset, size_t size) {
        return n > size ? (abort(), -1) : pread64(fd, buffer, n, offset);
}

ssize_t splice(int in, off_t *in_offset, int out, off_t *out_offset, size_t n, unsigned flags) {
        ssize_t (*real)(int, off_t *, int, off_t *, size_t, unsigned) =
                REAL(ssize_t(*)(int, off_t *, int, off_t *, size_t, unsigned), "splice");
        WRAP_IF(fault_fd("splice", out), real(in, in_offset, out, out_offset, n, flags));
}

/* Of whole pages: what is copied, not what is asked for to learn whether it is permitted. */
ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long n_local, const struct iovec *remote,
                         unsigned long n_remote, unsigned long flags) {
        ssize_t (*real)(pid_t, const struct iovec *, unsigned long, const struct iovec *, unsigned long,
                        unsigned long) = REAL(ssize_t(*)(pid_t, const struct iovec *, unsigned long,
                                                         const struct iovec *, unsigned long, unsigned long),
                                              "process_vm_readv");
        if (n_local == 0 || local[0].iov_len < 4096)
                return real(pid, local, n_local, remote, n_remote, flags);
        WRAP("process_vm_readv", real(pid, local, n_local, remote, n_remote, flags));
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
        ssize_t (*real)(int, struct msghdr *, int) = REAL(ssize_t(*)(int, struct msghdr *, int), "recvmsg");
        ssize_t n = real(fd, message, flags);
        int number;

        if (n <= 0 || !CMSG_FIRSTHDR(message))
                return n;
        number = fault("recvmsg");
        if (number < 0)
                raise(SIGKILL);
        if (number > 0) {
                errno = number;
                return -1;
        }
        return n;
}
