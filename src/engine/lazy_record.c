/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lazy_record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"
#include "process/proc.h"
#include "process/tree.h"

/* Of a tree of 65,536 processes. */
#define SIZE_MAX_RECORD ((size_t)4 << 20)

/* The first line has always this length: "pages DONE TOTAL". */
#define PROGRESS "pages %020llu %020llu\n"

static char *directory(void) {
        return path_join(path_run_dir(), "lazy");
}

int lazy_record_new(const char *image, struct lazy_record *ret, struct st_error **err) {
        _cleanup_free_ char *root = directory(), *path = path_join(root, "XXXXXX"), *text = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r = io_make_directories(root, 0700);

        if (r < 0)
                return st_error_errno(err, r, "cannot make %s", root);
        fd = mkostemp(path, O_CLOEXEC | O_APPEND);
        if (fd < 0)
                return st_error_errno(err, errno, "cannot make a file in %s", root);
        text = xasprintf(PROGRESS "image %s\n", 0ull, 0ull, image);
        r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : io_write_full(fd, text, strlen(text));
        if (r < 0) {
                (void)unlink(path);
                return st_error_errno(err, r, "cannot write %s", path);
        }
        ret->path = TAKE_PTR(path);
        ret->fd = TAKE_FD(fd);
        return 0;
}

void lazy_record_add(struct lazy_record *record, pid_t root) {
        _cleanup_tree_ struct tree tree = { 0 };

        if (tree_read(root, true, &tree, NULL) < 0)
                return;
        for (size_t i = 0; i < tree.n; i++) {
                _cleanup_free_ char *line = xasprintf("process %d %llu\n", (int)tree.tasks[i].pid,
                                                      (unsigned long long)tree.tasks[i].start_time);

                (void)io_write_full(record->fd, line, strlen(line));
        }
}

void lazy_record_progress(struct lazy_record *record, uint64_t done, uint64_t total) {
        _cleanup_free_ char *line = xasprintf(PROGRESS, (unsigned long long)done, (unsigned long long)total);
        /* By another way than O_APPEND, which pwrite(2) would follow. */
        _cleanup_close_ int fd = open(record->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd >= 0)
                (void)!pwrite(fd, line, strlen(line), 0);
}

void lazy_record_clear(struct lazy_record *record, bool remove) {
        if (record->path && remove)
                (void)unlink(record->path);
        if (record->fd >= 0)
                close(record->fd);
        free(record->path);
        *record = LAZY_RECORD_NULL;
}

void lazy_record_info_clear(struct lazy_record_info *info) {
        free(info->path);
        free(info->image);
        free(info->processes);
        *info = (struct lazy_record_info){ 0 };
}

/* Two numbers with a blank between. */
static bool two_numbers(char *text, uint64_t max_first, uint64_t *first, uint64_t *second) {
        char *blank = strchr(text, ' ');

        if (!blank)
                return false;
        *blank = '\0';
        return text_to_uint(text, max_first, first) >= 0 && text_to_uint(blank + 1, UINT64_MAX, second) >= 0;
}

static bool parse_line(char *line, struct lazy_record_info *info) {
        char *rest;
        uint64_t pid, start;

        if ((rest = (char *)text_after(line, "pages ")))
                return two_numbers(rest, UINT64_MAX, &info->done, &info->total);
        if ((rest = (char *)text_after(line, "image "))) {
                free(info->image);
                info->image = xstrdup(rest);
                return true;
        }
        if (!(rest = (char *)text_after(line, "process ")) || !two_numbers(rest, INT32_MAX, &pid, &start))
                return false;
        GROW(info->processes, info->n, info->room);
        info->processes[info->n++] = (struct lazy_record_process){ (pid_t)pid, start };
        return true;
}

int lazy_record_read(const char *path, struct lazy_record_info *ret) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        _cleanup_free_ char *text = NULL;
        bool readable = true;
        int r;

        if (fd < 0)
                return -errno;
        *ret = (struct lazy_record_info){ .path = xstrdup(path) };
        ret->served = flock(fd, LOCK_SH | LOCK_NB) < 0;
        r = io_read_file(AT_FDCWD, path, SIZE_MAX_RECORD, &text, NULL);
        for (char *line = text, *end; r >= 0 && readable && (end = strchr(line, '\n')); line = end + 1) {
                *end = '\0';
                readable = parse_line(line, ret);
        }
        if (r >= 0 && readable)
                return 0;
        lazy_record_info_clear(ret);
        return r < 0 ? r : -EBADMSG;
}

char **lazy_record_list(void) {
        _cleanup_free_ char *root = directory();
        _cleanup_closedir_ DIR *d = opendir(root);
        struct strv paths = { 0 };
        struct dirent *entry;

        while (d && (entry = readdir(d)))
                if (entry->d_name[0] != '.') {
                        _cleanup_free_ char *path = path_join(root, entry->d_name);
                        strv_add(&paths, path);
                }
        return paths.items;
}

bool lazy_record_is_alive(const struct lazy_record_info *info) {
        for (size_t i = 0; i < info->n; i++)
                if (proc_is_alive(info->processes[i].pid, info->processes[i].start_time))
                        return true;
        return false;
}
