/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "docker_criu_log.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "../common/cleanup.h"
#include "docker_root.h"
#include "fdio.h"

#define LOG_NAME "restore.log"
#define SHIM_STEP_MS 20 /* it lives for long before its CRIU does; all of /proc is looked at */
#define LOG_STEP_MS 4
#define PID_LIMIT 4194304 /* PID_MAX_LIMIT of the kernel (proc(5), pid_max) */
#define LOG_MAX ((off_t)64 * 1024 * 1024)

struct docker_criu_log {
        pthread_t thread;
        int stop; /* eventfd */
        int root_fd;
        char id[128];
        unsigned char *old; /* a bit for each PID that was there before */
        int work;           /* the shim's work directory, or -EBADF */
        int fd;             /* of the log, or -EBADF */
};

/* Calls back for each process; true ends it. */
static bool each_process(struct docker_criu_log *log, bool (*call)(struct docker_criu_log *log, unsigned pid)) {
        DIR *proc = opendir("/proc");
        bool found = false;

        for (struct dirent *entry; proc && !found && (entry = readdir(proc));) {
                unsigned long pid = isdigit((unsigned char)*entry->d_name) ? strtoul(entry->d_name, NULL, 10) : 0;
                if (pid > 0 && pid < PID_LIMIT)
                        found = call(log, (unsigned)pid);
        }
        if (proc)
                closedir(proc);
        return found;
}

static bool remember(struct docker_criu_log *log, unsigned pid) {
        log->old[pid / 8] |= (unsigned char)(1 << pid % 8);
        return false;
}

/* `work` is a link to an absolute path, as the engine sees it; without one the bundle is the work directory. */
static int open_work(int root_fd, unsigned shim) {
        char proc[64], target[PATH_MAX];

        snprintf(proc, sizeof(proc), "/proc/%u/cwd/work", shim);
        ssize_t n = readlink(proc, target, sizeof(target) - 1);
        if (n <= 0) {
                snprintf(proc, sizeof(proc), "/proc/%u/cwd", shim);
                return open(proc, O_PATH | O_DIRECTORY | O_CLOEXEC);
        }
        target[n] = 0;
        return docker_root_openat(root_fd, target, O_PATH | O_DIRECTORY, 0);
}

static bool is_shim(struct docker_criu_log *log, unsigned pid) {
        char path[64], command[4096];

        if (log->old[pid / 8] & (1 << pid % 8))
                return false;
        snprintf(path, sizeof(path), "/proc/%u/cmdline", pid);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, command, sizeof(command)) : -1;
        if (n <= 0 || !memmem(command, (size_t)n, "containerd-shim", 15) ||
            !memmem(command, (size_t)n, log->id, strlen(log->id)))
                return false;
        log->work = open_work(log->root_fd, pid);
        return log->work >= 0;
}

static void *watch(void *userdata) {
        struct docker_criu_log *log = userdata;
        struct pollfd stop = { .fd = log->stop, .events = POLLIN };

        while (log->fd < 0 && poll(&stop, 1, log->work < 0 ? SHIM_STEP_MS : LOG_STEP_MS) == 0) {
                if (log->work < 0)
                        (void)each_process(log, is_shim);
                if (log->work >= 0)
                        log->fd = openat(log->work, LOG_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        }
        return NULL;
}

static void log_free(struct docker_criu_log *log) {
        if (log->stop >= 0)
                close(log->stop);
        if (log->work >= 0)
                close(log->work);
        if (log->fd >= 0)
                close(log->fd);
        free(log->old);
        free(log);
}

struct docker_criu_log *docker_criu_log_watch(int root_fd, const char *id) {
        struct docker_criu_log *log = calloc(1, sizeof(*log));

        if (!log)
                return NULL;
        *log = (struct docker_criu_log){ .root_fd = root_fd, .work = -EBADF, .fd = -EBADF };
        snprintf(log->id, sizeof(log->id), "%s", id);
        log->stop = eventfd(0, EFD_CLOEXEC);
        log->old = calloc(1, PID_LIMIT / 8);
        if (log->stop >= 0 && log->old) {
                (void)each_process(log, remember);
                if (pthread_create(&log->thread, NULL, watch, log) == 0)
                        return log;
        }
        log_free(log);
        return NULL;
}

static bool copy_log(int from, const char *directory) {
        _cleanup_free_ char *path = NULL, *buffer = malloc(65536);
        off_t offset = 0;

        if (!buffer || asprintf(&path, "%s/" LOG_NAME, directory) < 0) {
                path = NULL;
                return false;
        }
        _cleanup_close_ int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        while (to >= 0 && offset < LOG_MAX) {
                ssize_t n = pread(from, buffer, 65536, offset);
                if (n <= 0)
                        return n == 0 && offset > 0;
                if (fdio_write(to, buffer, (size_t)n, -1, LOG_NAME, NULL) < 0)
                        return false;
                offset += n;
        }
        return false;
}

bool docker_criu_log_end(struct docker_criu_log *log, const char *directory) {
        if (!log)
                return false;
        (void)eventfd_write(log->stop, 1);
        pthread_join(log->thread, NULL);
        bool written = directory && log->fd >= 0 && copy_log(log->fd, directory);
        log_free(log);
        return written;
}
