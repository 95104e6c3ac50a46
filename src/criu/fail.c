/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "criu/digest.h"
#include "criu/log.h"

/* @return malloc'ed text, NULL when it cannot be read */
static char *read_log(const char *path, size_t *ret_size) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct stat st;
        char *text;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return NULL;
        return criu_log_read(fd, &text, ret_size) < 0 ? NULL : text;
}

/* It may have been less: some of what an operation writes is gone by the time it has failed. */
#define ROOM_LEAST ((uint64_t)64 << 10)

/** Is there no room where CRIU writes its log? Then that cannot tell the reason, which is this one. */
static bool is_full(const char *directory) {
        struct statvfs fs;

        return statvfs(directory, &fs) == 0 && fs.f_blocks > 0 &&
               (fs.f_bavail * (uint64_t)fs.f_frsize < ROOM_LEAST || (fs.f_files > 0 && fs.f_ffree == 0));
}

int criu_fail(const char *work_dir, enum criu_operation operation, int status, const char *name, int number,
              size_t keep, struct st_error **err) {
        _cleanup_free_ char *log = criu_log_path(work_dir, operation), *kept = NULL, *text = NULL;
        _cleanup_(digest_clear) struct digest digest = { 0 };
        size_t size = 0;

        text = read_log(log, &size);
        if (text && size > 0) {
                digest_log(text, &digest);
                kept = criu_log_keep(text, size, name, keep);
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
        if (!digest.cause && is_full(work_dir)) {
                digest.cause = xasprintf("no space left, or hardly any, on %s, where it works", work_dir);
                digest.hint = xstrdup("make room there");
                digest.number = ENOSPC;
        } else if (!digest.cause) {
                _cleanup_free_ char *ended = spawn_describe_status(status);

                digest.cause = xasprintf("it %s%s%s", WIFSIGNALED(status) ? "was " : "", ended,
                                         text && size > 0 ? "" : " and left no log");
        }
        if (number == 0)
                number = digest.number ? digest.number : EIO;

        st_error_set(err, number, "%s%s%s%s", digest.cause, kept ? " (log: " : "", kept ? kept : "", kept ? ")" : "");
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
                st_error_hint(err, "nothing of stasis kills it; when memory was short, the kernel's log says so");
        else if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGTERM || WTERMSIG(status) == SIGINT ||
                                         WTERMSIG(status) == SIGHUP || WTERMSIG(status) == SIGQUIT))
                st_error_hint(err, "nothing of stasis sends it that signal: whoever did has ended it");
        else if (WIFSIGNALED(status))
                st_error_hint(err, "CRIU has crashed: try a newer one, and report it to its developers with the log");
        else if (digest.hint)
                st_error_hint(err, "%s", digest.hint);
        else if (kept)
                st_error_hint(err, "'stasis explain %s' shows all that it said", kept);
        else
                st_error_hint(err, "'stasis check' tells whether CRIU works here");
        st_error_wrap(err, "CRIU could not %s process tree", operation == CRIU_DUMP ? "dump" : "restore");
        return number < 0 ? number : -number;
}
