/* SPDX-License-Identifier: Apache-2.0 */
#include "process/threads.h"

#include <fcntl.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "process/parse.h"

static void parse_key(struct thread *thread, const char *key, char *value) {
        uint64_t number;

        if (streq(key, "State")) {
                const char *word = parse_word(&value);
                thread->state = word ? *word : '?';
        } else if (streq(key, "TracerPid")) {
                if (parse_number(parse_word(&value), 10, INT32_MAX, &number) == 0)
                        thread->tracer = (pid_t)number;
        } else if (streq(key, "voluntary_ctxt_switches") || streq(key, "nonvoluntary_ctxt_switches")) {
                if (parse_number(parse_word(&value), 10, UINT64_MAX / 2, &number) == 0)
                        thread->switches += number;
        }
}

int thread_read(int proc_fd, pid_t tid, struct thread *ret) {
        char path[64], text[8192]; /* about 1,500 bytes; the two counters come last, behind the CPU and node masks */
        _cleanup_close_ int fd = -EBADF;
        char *cursor = text, *line;
        size_t n = 0;
        ssize_t k;

        snprintf(path, sizeof(path), "task/%d/status", (int)tid);
        fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        while (n < sizeof(text) - 1 && (k = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
                n += (size_t)k;
        text[n] = 0;

        *ret = (struct thread){ .tid = tid };
        while ((line = parse_line(&cursor))) {
                char *value = strchr(line, ':');

                if (!value)
                        continue;
                *value++ = 0;
                parse_key(ret, line, value);
        }
        return ret->state ? 0 : -ESRCH;
}

int threads_each(int proc_fd, thread_fn call, void *userdata) {
        int dir_fd = openat(proc_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        _cleanup_closedir_ DIR *dir = NULL;
        const struct dirent *entry;

        if (dir_fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;
        dir = fdopendir(dir_fd);
        if (!dir) {
                r = errno == ENOENT ? -ESRCH : -errno;
                close(dir_fd);
                return r;
        }
        while (r >= 0 && (entry = readdir(dir))) {
                struct thread thread;
                pid_t tid;

                if (text_to_pid(entry->d_name, &tid) == 0 && thread_read(proc_fd, tid, &thread) == 0)
                        r = call(&thread, userdata);
        }
        return r < 0 ? r : 0;
}
