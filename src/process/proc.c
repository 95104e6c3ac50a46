/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "process/parse.h"

/* The largest regular text, the mountinfo of a host with tens of thousands of mounts, is a few MiB. */
#define FILE_LIMIT ((size_t)64 << 20)

/* Command lines can have megabytes (execve(2)); they are for reading, and travel in replies of bounded size. */
#define COMMAND_LINE_LIMIT ((size_t)64 << 10)

int proc_open(pid_t pid) {
        char path[32];

        if (pid <= 0)
                return -ESRCH;
        snprintf(path, sizeof(path), "/proc/%d", (int)pid);
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        return fd;
}

int proc_read_file_at(int proc_fd, const char *file, char **ret, size_t *ret_size) {
        return io_read_file(proc_fd, file, FILE_LIMIT, ret, ret_size);
}

/* Small files are read in one go: io_read_file() costs a second read and an allocation for each of many processes. */
static ssize_t read_small(int proc_fd, const char *file, char *buffer, size_t size) {
        _cleanup_close_ int fd = openat(proc_fd, file, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        if (fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        do
                n = read(fd, buffer, size - 1);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        buffer[n] = 0;
        return n;
}

int proc_read_stat_at(int proc_fd, struct proc_stat *ret) {
        char text[2048]; /* 52 numbers of at most 20 digits, and a name of 64 */
        ssize_t n = read_small(proc_fd, "stat", text, sizeof(text));

        return n < 0 ? (int)n : proc_parse_stat(text, ret);
}

int proc_read_status_at(int proc_fd, struct proc_status *ret) {
        _cleanup_free_ char *text = NULL;
        size_t size;

        *ret = (struct proc_status){ 0 };
        int r = proc_read_file_at(proc_fd, "status", &text, &size);
        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;
        return proc_parse_status(text, ret);
}

int proc_read_stat(pid_t pid, struct proc_stat *ret) {
        _cleanup_close_ int proc_fd = proc_open(pid);

        if (proc_fd < 0 || proc_read_stat_at(proc_fd, ret) < 0)
                return -ESRCH;
        return 0;
}

bool proc_stat_is_dead(const struct proc_stat *stat) {
        /* A main thread that called pthread_exit() is a zombie too, while its process lives on in other threads. */
        return stat->state == 'X' || stat->state == 'x' || (stat->state == 'Z' && stat->threads <= 1);
}

bool proc_is_alive(pid_t pid, uint64_t start_time) {
        struct proc_stat stat;

        return proc_read_stat(pid, &stat) == 0 && stat.start_time == start_time && !proc_stat_is_dead(&stat);
}

int proc_read_file(pid_t pid, const char *file, char **ret, size_t *ret_size) {
        _cleanup_close_ int proc_fd = proc_open(pid);

        if (proc_fd < 0)
                return proc_fd;
        return proc_read_file_at(proc_fd, file, ret, ret_size);
}

static char *command_in_brackets(int proc_fd) {
        struct proc_stat stat;

        return proc_read_stat_at(proc_fd, &stat) < 0 ? NULL : xasprintf("[%s]", stat.command);
}

char *proc_command_line_at(int proc_fd) {
        _cleanup_close_ int fd = openat(proc_fd, "cmdline", O_RDONLY | O_CLOEXEC);
        size_t n = 0, room = 0;
        _cleanup_free_ char *text = NULL;

        while (fd >= 0 && n <= COMMAND_LINE_LIMIT) {
                if (room - n < 512)
                        text = xrealloc(text, room = room ? room * 2 : 1024, 1);
                ssize_t k = read(fd, text + n, room - n);
                if (k < 0 && errno == EINTR)
                        continue;
                if (k <= 0)
                        break;
                n += (size_t)k;
        }

        bool cut = n > COMMAND_LINE_LIMIT;
        if (cut)
                n = COMMAND_LINE_LIMIT;
        while (n > 0 && text[n - 1] == 0)
                n--;
        if (n == 0)
                return command_in_brackets(proc_fd);
        for (size_t i = 0; i < n; i++)
                if (text[i] == 0)
                        text[i] = ' ';

        _cleanup_free_ char *clean = text_sanitise(text, n);
        return cut ? xasprintf("%s …", clean) : TAKE_PTR(clean);
}

char *proc_command_line(pid_t pid) {
        _cleanup_close_ int proc_fd = proc_open(pid);

        return proc_fd < 0 ? NULL : proc_command_line_at(proc_fd);
}

static char boot_id[64];

static void read_boot_id(void) {
        _cleanup_free_ char *text = NULL;
        size_t size;

        if (io_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", sizeof(boot_id) - 1, &text, &size) < 0)
                return;
        size = strcspn(text, "\n");
        memcpy(boot_id, text, size);
        boot_id[size] = 0;
}

const char *proc_boot_id(void) {
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        pthread_once(&once, read_boot_id);
        return boot_id;
}

char *proc_read_value_at(int proc_fd, const char *file, const char *key) {
        _cleanup_free_ char *text = NULL;
        char *cursor, *line;

        if (proc_read_file_at(proc_fd, file, &text, NULL) < 0)
                return NULL;
        cursor = text;
        while ((line = parse_line(&cursor))) {
                const char *value = text_after(line, key);

                if (value && *value == ':')
                        return xstrdup(value + 1 + strspn(value + 1, " \t"));
        }
        return NULL;
}

char *proc_read_value(pid_t pid, const char *file, const char *key) {
        _cleanup_close_ int proc_fd = proc_open(pid);

        return proc_fd < 0 ? NULL : proc_read_value_at(proc_fd, file, key);
}

/* A mask of bits in base 16; 0 when there is none. */
static uint64_t status_mask(pid_t pid, const char *key) {
        _cleanup_free_ char *value = proc_read_value(pid, "status", key);
        uint64_t mask;

        return parse_number(value, 16, UINT64_MAX, &mask) < 0 ? 0 : mask;
}

bool proc_is_being_killed(pid_t pid) {
        /* The set of signals that wait for the process as a whole, bit N-1 for signal N: proc_pid_status(5). */
        return status_mask(pid, "ShdPnd") & (1u << (SIGKILL - 1));
}

uint64_t proc_capabilities(void) {
        return status_mask(getpid(), "CapEff");
}
