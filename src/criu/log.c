/* SPDX-License-Identifier: Apache-2.0 */
#include "criu/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/text.h"

#define LOG_HEAD ((size_t)4 << 20)
#define LOG_TAIL ((size_t)12 << 20)
#define NAMES_MAX 1000
#define ENTRIES_MAX 100000 /* of the log directory that are looked at */

/* @return how many bytes came, fewer than asked for only at the end; -errno */
static ssize_t read_some(int fd, char *buffer, size_t size) {
        size_t n = 0;

        while (n < size) {
                ssize_t r = read(fd, buffer + n, size - n);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return -errno;
                if (r == 0)
                        break;
                n += (size_t)r;
        }
        return (ssize_t)n;
}

/* The end of a long log goes round in a ring; a file is not read but skipped to its end. */
struct tail {
        char *ring;
        size_t at;      /* where the next byte goes */
        uint64_t total; /* bytes that came */
};

static int read_tail(int fd, struct tail *tail) {
        for (;;) {
                ssize_t n = read_some(fd, tail->ring + tail->at, LOG_TAIL - tail->at);

                if (n < 0)
                        return (int)n;
                tail->total += (uint64_t)n;
                if (tail->at + (size_t)n < LOG_TAIL) {
                        tail->at += (size_t)n;
                        return 0;
                }
                tail->at = 0;
                if (tail->total > CRIU_LOG_READ_MAX)
                        return -EFBIG;
        }
}

/* Skips what of a regular file neither belongs to the beginning nor to the end. @return bytes skipped */
static uint64_t skip_middle(int fd) {
        off_t at = lseek(fd, 0, SEEK_CUR);
        struct stat st;

        if (at < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size - at <= (off_t)LOG_TAIL)
                return 0;
        off_t end = lseek(fd, st.st_size - (off_t)LOG_TAIL, SEEK_SET);
        return end > at ? (uint64_t)(end - at) : 0;
}

/* Head, a line that tells what is missing, and the ring put in order. @return malloc'ed, NULL without memory */
static char *join(const char *head, size_t head_size, const struct tail *tail, uint64_t skipped, size_t *ret_size) {
        bool full = tail->total >= LOG_TAIL;
        uint64_t missing = skipped + (full ? tail->total - LOG_TAIL : 0);
        _cleanup_free_ char *mark =
                missing ? xasprintf("\n[%" PRIu64 " " CRIU_LOG_LEFT_OUT "\n", missing) : xstrdup("");
        size_t mark_size = strlen(mark), older = full ? LOG_TAIL - tail->at : 0;
        char *text = malloc(head_size + mark_size + older + tail->at + 1);

        if (!text)
                return NULL;
        memcpy(text, head, head_size);
        memcpy(text + head_size, mark, mark_size);
        memcpy(text + head_size + mark_size, tail->ring + tail->at, older);
        memcpy(text + head_size + mark_size + older, tail->ring, tail->at);
        *ret_size = head_size + mark_size + older + tail->at;
        return text;
}

int criu_log_read(int fd, char **ret, size_t *ret_size) {
        _cleanup_free_ char *head = malloc(LOG_HEAD), *ring = malloc(LOG_TAIL);
        struct tail tail = { .ring = ring };
        ssize_t n;
        int r;

        if (!head || !ring)
                return -ENOMEM;
        n = read_some(fd, head, LOG_HEAD);
        if (n < 0)
                return (int)n;

        uint64_t skipped = (size_t)n == LOG_HEAD ? skip_middle(fd) : 0;

        r = read_tail(fd, &tail);
        if (r < 0)
                return r;
        *ret = join(head, (size_t)n, &tail, skipped, ret_size);
        if (!*ret)
                return -ENOMEM;
        for (size_t i = 0; i < *ret_size; i++)
                if (!(*ret)[i])
                        (*ret)[i] = ' ';
        (*ret)[*ret_size] = '\0';
        return 0;
}

/* Creates NAME.log, or NAME-2.log … @return its path, malloc'ed; NULL when that failed */
static char *create(const char *directory, const char *name, int *ret_fd) {
        for (int i = 1; i <= NAMES_MAX; i++) {
                _cleanup_free_ char *path = i == 1 ? xasprintf("%s/%s.log", directory, name)
                                                   : xasprintf("%s/%s-%d.log", directory, name, i);
                int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

                if (fd >= 0) {
                        *ret_fd = fd;
                        return TAKE_PTR(path);
                }
                if (errno != EEXIST)
                        return NULL;
        }
        return NULL;
}

struct kept {
        char name[NAME_MAX + 1];
        struct timespec time;
};

static int compare_age(const void *a, const void *b) {
        const struct kept *x = a, *y = b;

        if (x->time.tv_sec != y->time.tv_sec)
                return x->time.tv_sec < y->time.tv_sec ? -1 : 1;
        if (x->time.tv_nsec != y->time.tv_nsec)
                return x->time.tv_nsec < y->time.tv_nsec ? -1 : 1;
        return strcmp(x->name, y->name);
}

/* Is it a name that the engine gives to the log of a failed run? The administrator's own files are left alone. */
static bool is_ours(const char *name) {
        const char *rest = text_after(name, "dump-") ?: text_after(name, "restore-");

        return rest && *rest >= '0' && *rest <= '9' && text_ends_with(rest, ".log") && strlen(name) <= NAME_MAX;
}

/* Removes the oldest until `limit` are left, never the one that was just written. Failures do not matter. */
static void prune(const char *directory, const char *newest, size_t limit) {
        _cleanup_closedir_ DIR *d = opendir(directory);
        _cleanup_free_ struct kept *logs = NULL;
        size_t n = 0, room = 0;
        struct dirent *entry;
        struct stat st;

        while (d && n < ENTRIES_MAX && (entry = readdir(d))) {
                if (!is_ours(entry->d_name) || streq(entry->d_name, newest) ||
                    fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
                        continue;
                GROW(logs, n, room);
                logs[n].time = st.st_mtim;
                memcpy(logs[n++].name, entry->d_name, strlen(entry->d_name) + 1);
        }
        if (n + 1 <= limit)
                return;
        qsort(logs, n, sizeof(*logs), compare_age);
        for (size_t i = 0; i < n && n + 1 - i > limit; i++)
                (void)unlinkat(dirfd(d), logs[i].name, 0);
}

char *criu_log_keep(const char *text, size_t size, const char *name, size_t limit) {
        const char *directory = path_log_dir();
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *path = NULL;

        /* Created private; a directory that is there keeps the mode that the administrator gave it. */
        if (!path_is_name(name) || limit == 0 || io_make_directories(directory, 0700) < 0)
                return NULL;
        path = create(directory, name, &fd);
        if (!path)
                return NULL;
        if (io_write_full(fd, text, size) < 0) {
                (void)unlink(path); /* a full disk: half a log is no use */
                return NULL;
        }
        prune(directory, path_name(path), limit);
        return TAKE_PTR(path);
}
