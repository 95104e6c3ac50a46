/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "process/files.h"
#include "process/parse.h"

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
                return file->append ? "rwa" : "rw";
        if (file->writable)
                return file->append ? "wa" : "w";
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

/* proc_pid_fdinfo(5): "flags:\t02100002" in octal, "mnt_id:\t15". */
static void read_info(int proc_fd, const char *name, struct file *file) {
        _cleanup_close_ int fd = -EBADF;
        char path[32], text[512];

        snprintf(path, sizeof(path), "fdinfo/%.16s", name);
        fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return;
        ssize_t n = read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return;
        text[n] = 0;

        char *cursor = text, *line;
        while ((line = parse_line(&cursor))) {
                char *key = parse_word(&line), *value = parse_word(&line);
                uint64_t number;

                if (!key || !value)
                        continue;
                if (streq(key, "flags:") && parse_number(value, 8, UINT64_MAX, &number) == 0)
                        file->append = number & O_APPEND;
                else if (streq(key, "mnt_id:") && parse_number(value, 10, UINT64_MAX, &number) == 0)
                        file->mount_id = number;
        }
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
        int proc_fd, dir_fd;
        unsigned detail;
        uint64_t socket_dev; /* of the file system of sockets, once one was seen; 0 before */
        char link[PATH_MAX];
};

/*
 * Every system call here is made ten thousand times: what needs no path is known by its node alone.
 *
 * @return 1 when the file was read, 0 when it is of no interest or closed meanwhile, -errno
 */
static int read_file(struct walk *walk, const char *name, struct file *file) {
        int64_t fd;

        if (text_to_int(name, 0, INT_MAX, &fd) < 0)
                return 0;
        *file = (struct file){ .fd = (int)fd, .link = walk->link };
        int type = read_node(walk->dir_fd, name, file);
        if (type < 0)
                return 0;
        if (type == S_IFSOCK && file->dev == walk->socket_dev) {
                file->kind = FILE_SOCKET;
                snprintf(walk->link, sizeof(walk->link), "socket:[%" PRIu64 "]", file->inode);
                return 1;
        }
        if (!(walk->detail & FILES_DETAILS) && (type == S_IFREG || type == S_IFDIR))
                return 0;

        int r = read_link(walk->dir_fd, name, walk->link);
        if (r < 0)
                return r == -ENOENT || r == -ESRCH ? 0 : r;
        classify(file);
        if (file->kind == FILE_SOCKET) {
                walk->socket_dev = file->dev;
                return 1;
        }
        if (read_access(walk->dir_fd, name, file) < 0)
                return 0;
        /* Most files are open for reading only: then this costs nothing, and the mount is known from statx. */
        if ((walk->detail & FILES_DETAILS) && (file->writable || file->mount_id == 0))
                read_info(walk->proc_fd, name, file);
        return 1;
}

int files_each(int proc_fd, unsigned detail, files_fn call, void *userdata) {
        int dir_fd = openat(proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct walk walk = { .proc_fd = proc_fd, .dir_fd = dir_fd, .detail = detail };
        _cleanup_closedir_ DIR *dir = NULL;
        const struct dirent *entry;
        struct file file;

        if (dir_fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        dir = fdopendir(dir_fd);
        if (!dir) {
                /* Its fstat(2) counts the descriptors, and finds no process. */
                int r = errno == ENOENT ? -ESRCH : -errno;
                close(dir_fd);
                return r;
        }
        for (;;) {
                errno = 0;
                entry = readdir(dir);
                if (!entry)
                        return errno == ENOENT ? -ESRCH : -errno;
                int r = read_file(&walk, entry->d_name, &file);
                if (r > 0)
                        r = call(&file, userdata);
                if (r < 0)
                        return r;
        }
}
