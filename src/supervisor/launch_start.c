/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <stasis/log.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/spawn.h"
#include "base/text.h"
#include "supervisor/launch.h"

/* " as user 1000"; malloc'ed */
static char *as_user(const struct launch_settings *settings) {
        return settings->set_identity ? xasprintf(" as user %u", settings->uid) : xstrdup("");
}

static int describe_exec(const struct launch_settings *settings, const struct launch_report *report,
                         struct st_error **err) {
        _cleanup_free_ char *user = as_user(settings);
        const char *path = settings->path, *detail = report->detail;
        int number = report->number;

        switch ((enum launch_why)report->why) {
        case LAUNCH_WHY_DIRECTORY:
                return st_error_set(err, number, "cannot run %s: it is a directory", path);
        case LAUNCH_WHY_NOT_REGULAR:
                return st_error_set(err, number, "cannot run %s: it is not a regular file", path);
        case LAUNCH_WHY_NO_X:
                st_error_set(err, number, "cannot run %s: it is not executable", path);
                st_error_hint(err, "chmod +x %s", path);
                return -number;
        case LAUNCH_WHY_MOUNT:
                return st_error_set(err, number, "cannot run %s: its file system is mounted with noexec", path);
        case LAUNCH_WHY_INTERPRETER:
                if (isempty(detail))
                        return st_error_errno(err, number, "cannot run %s%s: what it is to be run by", path, user);
                return st_error_errno(err, number, "cannot run %s%s: its interpreter %s", path, user, detail);
        case LAUNCH_WHY_LOADER:
                st_error_errno(err, number, "cannot run %s%s: its loader %s", path, user, detail);
                st_error_hint(err, "was it built for another system?");
                return -number;
        case LAUNCH_WHY_NO_PROGRAM:
                st_error_set(err, number, "cannot run %s: it is neither a program for this machine nor a script", path);
                st_error_hint(err, "the first line of a script names its interpreter: #!/bin/sh");
                return -number;
        case LAUNCH_WHY_ERRNO:
                break;
        }
        st_error_errno(err, number, "cannot run %s%s", path, user);
        if (number == EAGAIN)
                st_error_hint(err, "the user may have no more processes (ulimit -u)");
        if (number == E2BIG)
                st_error_hint(err, "the arguments and the environment together are too long");
        return -number;
}

static int describe(const struct launch_settings *settings, const struct launch_report *report, struct st_error **err) {
        _cleanup_free_ char *user = as_user(settings);
        const char *directory = settings->directory ? settings->directory : "/";
        int number = report->number, r;

        switch ((enum launch_step)report->step) {
        case LAUNCH_EXEC:
                return describe_exec(settings, report, err);
        case LAUNCH_DIRECTORY:
                r = st_error_errno(err, number, "cannot enter the directory %s%s", directory, user);
                break;
        case LAUNCH_NAMESPACES:
                r = st_error_errno(err, number, "cannot join the namespaces of who asked");
                break;
        case LAUNCH_LIMIT:
                r = st_error_errno(err, number, "cannot set its resource limits (%s)", report->detail);
                break;
        case LAUNCH_SESSION:
                r = st_error_errno(err, number, "cannot make a session");
                break;
        case LAUNCH_TERMINAL:
                r = st_error_errno(err, number, "cannot make the terminal its controlling one");
                break;
        case LAUNCH_IDENTITY:
                r = st_error_errno(err, number, "cannot become user %u (%s)", settings->uid, report->detail);
                break;
        case LAUNCH_INIT:
                r = st_error_errno(err, number, "cannot start stasis-init");
                break;
        default:
                r = st_error_errno(err, number, "stasis-launch cannot read its settings");
                break;
        }
        st_error_wrap(err, "cannot run %s", settings->path);
        return r;
}

static void warn(const struct launch_settings *settings, const struct launch_report *report) {
        const char *what = report->step == LAUNCH_WARNING_CGROUP  ? "is not in its cgroup"
                           : report->step == LAUNCH_WARNING_LIMIT ? "has a lower resource limit than asked for"
                           : report->step == LAUNCH_WARNING_NICE  ? "has another nice value than asked for"
                           : report->step == LAUNCH_WARNING_CPUS  ? "does not run on the CPUs asked for"
                                                                  : "has another oom_score_adj than asked for";

        st_log_warning("%s %s (%s): %s", settings->path, what, report->detail, strerror(report->number));
}

/* Reads reports to their end. @return 0, or -errno of a failure with err */
static int listen_to(int fd, const struct launch_settings *settings, pid_t *forked, struct st_error **err) {
        struct launch_report report;
        int r, failure = 0;

        while ((r = io_read_full(fd, &report, sizeof(report))) >= 0) {
                report.detail[sizeof(report.detail) - 1] = '\0';
                if (report.step == LAUNCH_FORKED)
                        *forked = report.number;
                else if (report.step < LAUNCH_FORKED)
                        warn(settings, &report);
                else if (failure == 0)
                        failure = describe(settings, &report, err);
        }
        if (failure == 0 && r != -ENODATA)
                failure = st_error_errno(err, r, "cannot run %s: no word of stasis-launch", settings->path);
        return failure;
}

static pid_t start(const char *program, const struct launch_settings *settings, const int stdio[static 3],
                   int settings_fd, int report_fd, int *ret_pidfd, struct st_error **err) {
        const struct spawn_fd fds[] = {
                { .fd = stdio[0], .number = STDIN_FILENO },
                { .fd = stdio[1], .number = STDOUT_FILENO },
                { .fd = stdio[2], .number = STDERR_FILENO },
                { .fd = settings_fd, .number = LAUNCH_SETTINGS_FD },
                { .fd = report_fd, .number = LAUNCH_REPORT_FD },
                { .fd = settings->namespaces, .number = LAUNCH_NAMESPACES_FD },
        };
        const struct spawn spawn = {
                .path = program,
                .argv = (char *const[]){ (char *)"stasis-launch", NULL },
                .environment = (char *const[]){ NULL },
                .fds = fds,
                .n_fds = settings->namespaces >= 0 ? ELEMENTSOF(fds) : ELEMENTSOF(fds) - 1,
        };

        return spawn_start(&spawn, ret_pidfd, err);
}

pid_t launch_start_by(const char *launcher, const char *init, const struct launch_settings *settings,
                      const int stdio[static 3], int *ret_pidfd, struct st_error **err) {
        _cleanup_free_ char *packed = NULL;
        _cleanup_close_ int settings_fd = -EBADF, reports = -EBADF, report_fd = -EBADF, pidfd = -EBADF;
        pid_t pid, forked = 0;
        int pipe_fds[2], r;
        size_t size;

        r = launch_pack(settings, init, &packed, &size);
        if (r == -E2BIG)
                return st_error_set(err, r, "cannot run %s: its arguments and environment are too long",
                                    settings->path);
        if (r < 0)
                return st_error_set(err, r, "cannot run a job without a command");
        settings_fd = io_memfd("launch", packed, size);
        if (settings_fd < 0)
                return st_error_errno(err, settings_fd, "cannot run %s: no memory file", settings->path);
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return st_error_errno(err, errno, "cannot run %s: no pipe", settings->path);
        reports = pipe_fds[0];
        report_fd = pipe_fds[1];

        pid = start(launcher, settings, stdio, settings_fd, report_fd, &pidfd, err);
        if (pid < 0) {
                st_error_wrap(err, "cannot run %s", settings->path);
                return pid;
        }
        close(TAKE_FD(report_fd));
        r = listen_to(reports, settings, &forked, err);
        if (r < 0 || forked > 0)
                (void)spawn_wait(pid, NULL);
        if (r < 0 && forked > 0)
                (void)spawn_wait(forked, NULL);
        if (r < 0)
                return r;
        if (forked > 0) {
                pid = forked;
                close(TAKE_FD(pidfd));
                pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
                if (pidfd < 0 && ret_pidfd) {
                        r = st_error_errno(err, errno, "cannot watch %s, which runs as process %d", settings->path,
                                           pid);
                        (void)kill(pid, SIGKILL);
                        (void)spawn_wait(pid, NULL);
                        return r;
                }
        }
        if (ret_pidfd)
                *ret_pidfd = TAKE_FD(pidfd);
        return pid;
}

pid_t launch_start(const struct launch_settings *settings, const int stdio[static 3], int *ret_pidfd,
                   struct st_error **err) {
        _cleanup_free_ char *launcher = path_libexec("stasis-launch");
        _cleanup_free_ char *init = settings->init ? path_libexec("stasis-init") : NULL;

        return launch_start_by(launcher, init, settings, stdio, ret_pidfd, err);
}
