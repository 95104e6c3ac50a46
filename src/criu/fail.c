/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "criu/digest.h"

/*
 * A CRIU that loops can write gigabytes (seen: a pages image that was cut off). What is read, and what is kept, is the
 * beginning and the end of such a log.
 */
#define LOG_HEAD (4 << 20)
#define LOG_TAIL (12 << 20)
#define NAMES_MAX 1000

/* Appends up to `size` bytes from an offset to a buffer. @return how many */
static size_t append_part(int fd, off_t offset, size_t size, char *buffer) {
        size_t n = 0;

        while (n < size) {
                ssize_t r = pread(fd, buffer + n, size - n, offset + (off_t)n);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        break;
                n += (size_t)r;
        }
        return n;
}

/* @return malloc'ed text without NULs within, NULL when it cannot be read */
static char *read_log(const char *path, size_t *ret_size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        _cleanup_free_ char *left_out = NULL;
        struct stat st;
        size_t n;
        char *text;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return NULL;
        if (st.st_size <= LOG_HEAD + LOG_TAIL) {
                text = malloc((size_t)st.st_size + 1);
                n = text ? append_part(fd, 0, (size_t)st.st_size, text) : 0;
        } else {
                off_t tail = st.st_size - LOG_TAIL;

                left_out = xasprintf("\n[%jd bytes left out]\n", (intmax_t)(tail - LOG_HEAD));
                text = malloc(LOG_HEAD + LOG_TAIL + strlen(left_out) + 1);
                n = text ? append_part(fd, 0, LOG_HEAD, text) : 0;
                if (text) {
                        memcpy(text + n, left_out, strlen(left_out));
                        n += strlen(left_out);
                        n += append_part(fd, tail, LOG_TAIL, text + n);
                }
        }
        if (!text)
                return NULL;
        for (size_t i = 0; i < n; i++)
                if (!text[i])
                        text[i] = ' ';
        text[n] = '\0';
        *ret_size = n;
        return text;
}

/*
 * Creates NAME.log in the log directory, or NAME-2.log …: an older log is never overwritten.
 * @return its path, malloc'ed; NULL when that failed
 */
static char *create_log(const char *name, int *ret_fd) {
        const char *directory = path_log_dir();

        /* Created private; one that is there keeps the mode that the administrator gave it. */
        if (io_make_directories(directory, 0700) < 0)
                return NULL;
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

/* @return the path of the kept log, malloc'ed; NULL when it could not be kept */
static char *keep_log(const char *text, size_t size, const char *name) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *path = path_is_name(name) ? create_log(name, &fd) : NULL;

        if (!path)
                return NULL;
        if (io_write_full(fd, text, size) < 0) {
                (void)unlink(path); /* a full disk: half a log is no use */
                return NULL;
        }
        return TAKE_PTR(path);
}

int criu_fail(const char *work_dir, enum criu_operation operation, int status, const char *name, int number,
              struct st_error **err) {
        _cleanup_free_ char *log = criu_log_path(work_dir, operation), *kept = NULL, *text = NULL;
        _cleanup_(digest_clear) struct digest digest = { 0 };
        size_t size = 0;

        text = read_log(log, &size);
        if (text && size > 0) {
                digest_log(text, &digest);
                kept = keep_log(text, size, name);
                if (kept)
                        (void)unlink(log);
        }
        if (err && *err)
                return st_error_wrap(err, "CRIU could not %s process tree%s%s%s",
                                     operation == CRIU_DUMP ? "dump" : "restore", kept ? " (log: " : "",
                                     kept ? kept : "", kept ? ")" : "");
        /* Who was killed did not choose its last words: what stands in the log is an effect, at best. */
        if (WIFSIGNALED(status))
                digest_clear(&digest);
        if (!digest.cause) {
                _cleanup_free_ char *ended = spawn_describe_status(status);

                digest.cause = xasprintf("it %s%s%s", WIFSIGNALED(status) ? "was " : "", ended,
                                         text && size > 0 ? "" : " and left no log");
        }
        if (number == 0)
                number = digest.number ? digest.number : EIO;

        st_error_set(err, number, "%s%s%s%s", digest.cause, kept ? " (log: " : "", kept ? kept : "", kept ? ")" : "");
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
                st_error_hint(err, "nothing of stasis kills it; when memory was short, the kernel's log says so");
        if (digest.hint)
                st_error_hint(err, "%s", digest.hint);
        st_error_wrap(err, "CRIU could not %s process tree", operation == CRIU_DUMP ? "dump" : "restore");
        return number < 0 ? number : -number;
}
