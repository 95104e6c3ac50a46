/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/hook_program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/spawn.h"
#include "base/text.h"

#define LINE_LIMIT ((size_t)1024)
/* A program that prints for ever must not fill the log. */
#define LINES_LIMIT 200

static bool is_trusted(const struct stat *st, uid_t caller) {
        bool sticky_directory = S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX);

        return (st->st_uid == 0 || st->st_uid == caller) && (sticky_directory || (st->st_mode & 022) == 0);
}

static int refuse(const char *path, const struct stat *st, uid_t caller, struct st_error **err) {
        st_error_set(err, EPERM,
                     "%s has owner uid %u and mode %04o, but must belong to root%s and be writable by nobody else",
                     path, st->st_uid, st->st_mode & 07777, caller == 0 ? "" : " or to the caller");
        st_error_hint(err, "chown root %s && chmod go-w %s", path, path);
        return -EPERM;
}

int hook_program_check(const char *path, uid_t caller, struct st_error **err) {
        _cleanup_free_ char *at = NULL;
        struct stat st;

        if (path[0] != '/')
                return st_error_set(err, EINVAL, "'%s' is not an absolute path", path);
        at = realpath(path, NULL);
        if (!at || stat(at, &st) < 0)
                return st_error_errno(err, errno, "cannot find %s", path);
        if (!S_ISREG(st.st_mode) || (st.st_mode & 0111) == 0) {
                st_error_set(err, EACCES, "%s is not an executable file", path);
                st_error_hint(err, "chmod +x %s", path);
                return -EACCES;
        }
        /* From the file up to the root: what is safe below a safe directory stays so. */
        for (;;) {
                if (!is_trusted(&st, caller))
                        return refuse(at, &st, caller, err);
                if (streq(at, "/"))
                        return 0;

                char *up = path_directory(at);
                free(at);
                at = up;
                if (stat(at, &st) < 0)
                        return st_error_errno(err, errno, "cannot look at %s", at);
        }
}

/* What a hook prints, a line at a time. */
struct lines {
        const struct hook_program *hook;
        char line[LINE_LIMIT + 1];
        size_t n;
        char *last; /* that was not empty */
        unsigned logged;
};

static void end_line(struct lines *lines) {
        char *text;

        if (lines->n == 0)
                return;
        text = text_sanitise(lines->line, lines->n);
        lines->n = 0;
        if (lines->logged < LINES_LIMIT)
                st_log_info("hook %s %s: %s", lines->hook->when, lines->hook->path, text);
        else if (lines->logged == LINES_LIMIT)
                st_log_warning("hook %s %s: prints more than %d lines: the rest is left out", lines->hook->when,
                               lines->hook->path, LINES_LIMIT);
        lines->logged += lines->logged <= LINES_LIMIT;
        free(lines->last);
        lines->last = text;
}

static void take(struct lines *lines, const char *text, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (text[i] == '\n' || lines->n == LINE_LIMIT)
                        end_line(lines);
                if (text[i] != '\n')
                        lines->line[lines->n++] = text[i];
        }
}

/* Takes what can be read now, a bounded amount. @return false at the end */
static bool read_output(int fd, struct lines *lines) {
        char buffer[4096];

        for (int turn = 0; turn < 64; turn++) {
                ssize_t n = read(fd, buffer, sizeof(buffer));

                if (n < 0)
                        return errno == EAGAIN || errno == EINTR;
                if (n == 0)
                        return false;
                take(lines, buffer, (size_t)n);
        }
        return true;
}

/* Until it has ended. @return 0, -ETIMEDOUT, -ECANCELED or -errno */
static int watch(const struct hook_program *hook, int pidfd, int output, struct lines *lines) {
        int64_t end = (int64_t)clock_ms() + hook->timeout_ms;
        struct pollfd fds[] = {
                { .fd = pidfd, .events = POLLIN },
                { .fd = output, .events = POLLIN },
                { .fd = hook->cancel_fd, .events = POLLIN },
        };

        for (;;) {
                int64_t left = end - (int64_t)clock_ms();

                if (left <= 0)
                        return -ETIMEDOUT;
                if (poll(fds, ELEMENTSOF(fds), (int)left) < 0) {
                        if (errno != EINTR)
                                return -errno;
                        continue;
                }
                if (fds[1].revents && !read_output(output, lines))
                        fds[1].fd = -1;
                if (fds[0].revents) { /* what its own children still print is nobody's */
                        if (fds[1].fd >= 0)
                                (void)read_output(output, lines);
                        return 0;
                }
                if (fds[2].revents)
                        return -ECANCELED;
        }
}

static int describe_end(const struct hook_program *hook, int r, int status, const struct lines *lines,
                        struct st_error **err) {
        _cleanup_free_ char *how = NULL;

        if (r == -ECANCELED)
                return st_error_set(err, ECANCELED, "cancelled while the hook %s %s ran", hook->when, hook->path);
        if (r == -ETIMEDOUT) {
                st_error_set(err, ETIMEDOUT, "the hook %s %s did not end within %d s%s%s", hook->when, hook->path,
                             hook->timeout_ms / 1000, lines->last ? ": " : "", lines->last ?: "");
                st_error_hint(err, "see Hooks.Timeout");
                return -ETIMEDOUT;
        }
        if (r < 0)
                return st_error_errno(err, r, "cannot wait for the hook %s %s", hook->when, hook->path);
        if (spawn_exit_code(status) == 0)
                return 0;
        how = spawn_describe_status(status);
        return st_error_set(err, EBUSY, "the hook %s %s %s%s%s", hook->when, hook->path, how, lines->last ? ": " : "",
                            lines->last ?: "");
}

int hook_program_run(const struct hook_program *hook, struct st_error **err) {
        char *const argv[] = { (char *)hook->path, NULL };
        _cleanup_close_ int pidfd = -EBADF, ours = -EBADF, theirs = -EBADF;
        struct lines lines = { .hook = hook };
        int pipe_fds[2], status = 0, r;
        pid_t pid;

        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return st_error_errno(err, errno, "cannot make a pipe");
        ours = pipe_fds[0];
        theirs = pipe_fds[1];
        (void)io_set_nonblocking(ours, true);

        const struct spawn_fd fds[] = { { .fd = theirs, .number = STDOUT_FILENO },
                                        { .fd = theirs, .number = STDERR_FILENO } };
        const struct spawn spawn = {
                .path = hook->path,
                .argv = argv,
                .environment = hook->environment,
                .directory = "/",
                .fds = fds,
                .n_fds = ELEMENTSOF(fds),
                .new_session = true,
        };
        pid = spawn_start(&spawn, &pidfd, err);
        if (pid < 0)
                return st_error_wrap(err, "the hook %s cannot be run", hook->when);
        close(TAKE_FD(theirs));
        r = watch(hook, pidfd, ours, &lines);
        if (r < 0)
                (void)kill(-pid, SIGKILL);
        (void)spawn_wait(pid, &status);
        end_line(&lines);
        r = describe_end(hook, r, status, &lines, err);
        free(lines.last);
        return r;
}
