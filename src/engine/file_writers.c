/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/file_writers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/plain_file.h"
#include "base/text.h"
#include "process/files.h"
#include "process/parse.h"
#include "process/proc.h"

static int is_writer(const struct file *file, void *userdata) {
        const struct plain_file *wanted = userdata;

        return file->writable && file->inode == wanted->inode && file->dev == wanted->dev ? -EEXIST : 0;
}

static bool writes(pid_t pid, struct plain_file *wanted) {
        _cleanup_close_ int proc_fd = proc_open(pid);

        return proc_fd >= 0 && files_each(proc_fd, FILES_ALL, is_writer, wanted) == -EEXIST;
}

/** @return a process with a descriptor that can write, not ours; 0: none */
static pid_t search(struct plain_file *wanted) {
        _cleanup_closedir_ DIR *directory = opendir("/proc");
        struct dirent *entry;
        pid_t pid;

        while (directory && (entry = readdir(directory)))
                if (text_to_pid(entry->d_name, &pid) >= 0 && pid != getpid() && writes(pid, wanted))
                        return pid;
        return 0;
}

int file_writers_find(const char *path, char **ret_who) {
        _cleanup_close_ int fd = plain_file_open(path, O_RDONLY | O_NOATIME);
        struct plain_file wanted;
        pid_t pid;
        int r;

        if (fd < 0)
                return fd;
        r = plain_file_has_writers(fd);
        if (r == 0)
                return 0;
        bool known = r > 0; /* else the file system knows no leases */
        r = plain_file_look(fd, "", 0, &wanted);
        if (r < 0)
                return r;
        pid = search(&wanted);
        if (pid == 0 && !known)
                return 0;
        if (pid > 0)
                *ret_who = proc_describe_pid(pid);
        if (!*ret_who)
                *ret_who = xstrdup("a process");
        return 1;
}
