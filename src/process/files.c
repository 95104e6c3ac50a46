/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/files.h"
#include "process/parallel.h"

/* From so many descriptors on, threads are worth their start. */
#define PARALLEL_MIN 2000
/* What one thread takes at a time: little against the whole, much against taking it. */
#define PARALLEL_STEP 128

bool files_is_terminal(uint64_t rdev) {
        switch (major(rdev)) { /* Documentation/admin-guide/devices.txt of the kernel */
        case 4:                /* virtual consoles, serial lines */
        case 5:                /* /dev/tty, /dev/console, /dev/ptmx */
        case 136 ... 143:      /* ptys */
        case 188:              /* USB serial lines */
        case 204:              /* low-density serial lines */
        case 229:              /* consoles of hypervisors */
                return true;
        default:
                return false;
        }
}

const char *files_mode_text(const struct file *file) {
        if (file->readable && file->writable)
                return "rw";
        if (file->writable)
                return "w";
        return file->readable ? "r" : ""; /* O_PATH descriptors allow neither */
}

/* "pipe:[123]" → 123 */
static uint64_t inode_of_link(const char *link, const char *prefix) {
        const char *number = text_after(link, prefix);
        uint64_t inode = 0;

        for (; number && *number >= '0' && *number <= '9'; number++)
                inode = inode * 10 + (uint64_t)(*number - '0');
        return inode;
}

/* Real files have links that begin with "/" or "(unreachable)": no name of a file can look like one of these. */
static void classify(struct file *file) {
        uint64_t inode;

        if ((inode = inode_of_link(file->link, "socket:[")) != 0)
                file->kind = FILE_SOCKET;
        else if ((inode = inode_of_link(file->link, "pipe:[")) != 0)
                file->kind = FILE_PIPE;
        else if (streq(file->link, "anon_inode:[io_uring]"))
                file->kind = FILE_IO_URING;
        if (inode != 0)
                file->inode = inode;
}

/* The permissions of the link itself show how the descriptor was opened: proc_pid_fd(5). */
static int read_access(int dir_fd, const char *name, struct file *file) {
        struct stat st;

        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        file->readable = st.st_mode & S_IRUSR;
        file->writable = st.st_mode & S_IWUSR;
        return 0;
}

/*
 * AT_STATX_DONT_SYNC: what the kernel knows must do, a dead file server must not stop us.
 *
 * @return the type, S_IFMT of st_mode; 0: none, or unknown; -errno when the descriptor is closed meanwhile
 */
static int read_node(int dir_fd, const char *name, struct file *file) {
        struct statx stx;

        if (statx(dir_fd, name, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO | STATX_MNT_ID, &stx) < 0)
                return errno == ENOENT || errno == ESRCH ? -errno : 0;
        file->inode = stx.stx_ino;
        file->dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
        file->rdev = makedev(stx.stx_rdev_major, stx.stx_rdev_minor);
        if (stx.stx_mask & STATX_MNT_ID)
                file->mount_id = stx.stx_mnt_id;
        if (S_ISCHR(stx.stx_mode) && files_is_terminal(file->rdev))
                file->kind = FILE_TERMINAL;
        return stx.stx_mode & S_IFMT;
}

static int read_link(int dir_fd, const char *name, char link[PATH_MAX]) {
        ssize_t n = readlinkat(dir_fd, name, link, PATH_MAX - 1);

        if (n < 0 && errno != ENAMETOOLONG)
                return -errno;
        if (n < 0)
                n = snprintf(link, PATH_MAX, "(path too long)");
        link[n] = 0;
        return 0;
}

struct walk {
        int dir_fd; /* of /proc/PID/fd */
        enum files_detail detail;
        uint64_t socket_dev; /* of the file system of sockets, once one was seen; 0 before */
        char link[PATH_MAX];
};

/*
 * Every system call here is made ten thousand times: what needs no path is known by its node alone.
 *
 * @return 1 when the file was read, 0 when it is of no interest or closed meanwhile, -errno
 */
static int read_file(struct walk *walk, int number, struct file *file) {
        char name[16];

        snprintf(name, sizeof(name), "%d", number);
        *file = (struct file){ .fd = number, .link = walk->link };
        int type = read_node(walk->dir_fd, name, file);
        if (type < 0)
                return 0;
        if (type == S_IFSOCK && file->dev == walk->socket_dev) {
                file->kind = FILE_SOCKET;
                snprintf(walk->link, sizeof(walk->link), "socket:[%" PRIu64 "]", file->inode);
                return 1;
        }
        if (walk->detail == FILES_KINDS && (type == S_IFREG || type == S_IFDIR))
                return 0;

        int r = read_link(walk->dir_fd, name, walk->link);
        if (r < 0)
                return r == -ENOENT || r == -ESRCH ? 0 : r;
        classify(file);
        if (file->kind == FILE_SOCKET) {
                walk->socket_dev = file->dev;
                return 1;
        }
        return read_access(walk->dir_fd, name, file) < 0 ? 0 : 1;
}

/* Numbers of the open descriptors; malloc'ed. */
static int list_numbers(int dir_fd, int **ret, size_t *ret_n) {
        int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_closedir_ DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        _cleanup_free_ int *numbers = NULL;
        const struct dirent *entry;
        size_t n = 0, room = 0;

        if (!dir) {
                /* fdopendir(3) counts the descriptors by fstat(2), and finds no process. */
                int r = errno == ENOENT ? -ESRCH : -errno;
                if (copy >= 0)
                        close(copy);
                return r;
        }
        while ((errno = 0, entry = readdir(dir))) {
                int64_t number;

                if (text_to_int(entry->d_name, 0, INT_MAX, &number) < 0)
                        continue;
                GROW(numbers, n, room);
                numbers[n++] = (int)number;
        }
        if (errno != 0)
                return errno == ENOENT ? -ESRCH : -errno;
        *ret = TAKE_PTR(numbers);
        *ret_n = n;
        return 0;
}

/* Many descriptors, read by several threads. */
struct crowd {
        const struct walk *walk;
        const int *numbers;
        struct found {
                struct file file; /* with a link of its own */
                int result;       /* of read_file() */
        } * found;                /* one for each number */
};

static void read_some(size_t begin, size_t end, void *userdata) {
        const struct crowd *crowd = userdata;
        struct walk walk = *crowd->walk;

        for (size_t i = begin; i < end; i++) {
                struct found *found = &crowd->found[i];

                found->result = read_file(&walk, crowd->numbers[i], &found->file);
                if (found->result > 0)
                        found->file.link = xstrdup(walk.link);
        }
}

/* The calls are made here, in the order of the descriptors. */
static int each_parallel(const struct walk *walk, const int *numbers, size_t n, files_fn call, void *userdata) {
        _cleanup_free_ struct found *found = xcalloc(n, sizeof(*found));
        struct crowd crowd = { walk, numbers, found };
        int r = 0;

        parallel_each(n, PARALLEL_STEP, read_some, &crowd);
        for (size_t i = 0; i < n; i++) {
                if (r >= 0 && found[i].result > 0)
                        r = call(&found[i].file, userdata);
                else if (r >= 0)
                        r = found[i].result;
                if (found[i].result > 0)
                        free((char *)found[i].file.link);
        }
        return r < 0 ? r : 0;
}

int files_each(int proc_fd, enum files_detail detail, files_fn call, void *userdata) {
        _cleanup_close_ int dir_fd = openat(proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_free_ int *numbers = NULL;
        struct walk walk = { 0 };
        struct file file;
        size_t n = 0;
        int r;

        if (dir_fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        r = list_numbers(dir_fd, &numbers, &n);
        if (r < 0)
                return r;
        walk.dir_fd = dir_fd;
        walk.detail = detail;
        if (n >= PARALLEL_MIN)
                return each_parallel(&walk, numbers, n, call, userdata);
        for (size_t i = 0; i < n; i++) {
                r = read_file(&walk, numbers[i], &file);
                if (r > 0)
                        r = call(&file, userdata);
                if (r < 0)
                        return r;
        }
        return 0;
}
