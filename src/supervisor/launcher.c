/* SPDX-License-Identifier: Apache-2.0 */

/*
 * stasis-launch: becomes what the settings say (launch.h), and executes a job's command. Started by launch_start().
 *
 * The order matters: what needs root comes before the user, the limits last before it (they may leave no room for what
 * comes before), the directory after it, so that the user can enter it.
 */

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/examine.h"
#include "supervisor/launch.h"

static void report(enum launch_step step, int number, enum launch_why why, const char *detail) {
        struct launch_report message = { .number = number, .step = (uint8_t)step, .why = (uint8_t)why };

        if (detail)
                (void)snprintf(message.detail, sizeof(message.detail), "%s", detail);
        (void)io_write_full(LAUNCH_REPORT_FD, &message, sizeof(message));
}

static _Noreturn void fail(enum launch_step step, int number, const char *detail) {
        report(step, number, LAUNCH_WHY_ERRNO, detail);
        _exit(127);
}

static void read_settings(struct launch_parsed *ret) {
        struct stat st;

        if (fstat(LAUNCH_SETTINGS_FD, &st) < 0)
                fail(LAUNCH_SETTINGS, errno, NULL);
        if (st.st_size <= 0 || st.st_size > LAUNCH_SIZE_MAX)
                fail(LAUNCH_SETTINGS, EBADMSG, NULL);
        size_t size = (size_t)st.st_size;
        char *data = xmalloc(size);
        if (io_read_at(LAUNCH_SETTINGS_FD, data, size, 0) != (ssize_t)size || launch_parse(data, size, ret) < 0)
                fail(LAUNCH_SETTINGS, EBADMSG, NULL);
}

/* @return 0 or -errno */
static int put_text(const char *path, const char *text) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

        return fd < 0 ? -errno : io_write_full(fd, text, strlen(text));
}

static void join_cgroups(char *const *cgroups) {
        for (; *cgroups; cgroups++) {
                _cleanup_free_ char *path = xasprintf("%s/cgroup.procs", *cgroups);
                int r = put_text(path, "0");

                if (r < 0)
                        report(LAUNCH_WARNING_CGROUP, -r, LAUNCH_WHY_ERRNO, *cgroups);
        }
}

static void set_oom_score_adj(int value) {
        static const char path[] = "/proc/self/oom_score_adj";
        _cleanup_free_ char *text = xasprintf("%d", value), *before = io_read_line(path);
        int r;

        if (before && streq(before, text))
                return;
        r = put_text(path, text);
        if (r < 0)
                report(LAUNCH_WARNING_OOM, -r, LAUNCH_WHY_ERRNO, text);
}

static pid_t pid_of_pidfd(int fd) {
        _cleanup_free_ char *path = xasprintf("/proc/self/fdinfo/%d", fd), *text = NULL;
        pid_t pid = 0;

        if (io_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
                return 0;
        const char *at = strstr(text, "\nPid:\t");
        if (!at)
                return 0;
        char *line = xstrndup(at + 6, strcspn(at + 6, "\n"));
        (void)text_to_pid(line, &pid);
        free(line);
        return pid;
}

static bool same_namespace(pid_t pid, const char *name) {
        _cleanup_free_ char *theirs = xasprintf("/proc/%d/ns/%s", pid, name);
        _cleanup_free_ char *ours = xasprintf("/proc/self/ns/%s", name);
        struct stat a, b;

        /* A kernel without it has one of it. */
        return stat(theirs, &a) < 0 || stat(ours, &b) < 0 || (a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

/*
 * Whoever enters a PID namespace has only its children in it. So a brother is made, a child of our parent's like we
 * are, which goes on; only the kernel's own call can do that.
 */
static void move_into_pid_namespace(void) {
        long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, 0);

        if (pid < 0)
                fail(LAUNCH_NAMESPACES, errno, NULL);
        if (pid > 0) {
                report(LAUNCH_FORKED, (int)pid, LAUNCH_WHY_ERRNO, NULL);
                _exit(EXIT_SUCCESS);
        }
}

static void join_namespaces(void) {
        static const struct {
                const char *name;
                int flag;
        } namespaces[] = {
                { "cgroup", CLONE_NEWCGROUP }, { "ipc", CLONE_NEWIPC }, { "mnt", CLONE_NEWNS },
                { "net", CLONE_NEWNET },       { "pid", CLONE_NEWPID }, { "time", 0x80 /* CLONE_NEWTIME */ },
                { "uts", CLONE_NEWUTS },
        };
        pid_t pid = pid_of_pidfd(LAUNCH_NAMESPACES_FD);
        int flags = 0;

        if (pid <= 0)
                fail(LAUNCH_NAMESPACES, ESRCH, NULL);
        for (size_t i = 0; i < ELEMENTSOF(namespaces); i++)
                if (!same_namespace(pid, namespaces[i].name))
                        flags |= namespaces[i].flag;
        /* All in one call, which enters them in the right order (the mounts last) or none. */
        if (flags != 0 && setns(LAUNCH_NAMESPACES_FD, flags) < 0)
                fail(LAUNCH_NAMESPACES, errno, NULL);
        if (flags & CLONE_NEWPID)
                move_into_pid_namespace();
}

static void set_limits(const struct launch_settings *settings) {
        for (size_t i = 0; i < settings->n_limits; i++) {
                const struct launch_limit *limit = &settings->limits[i];
                struct rlimit value = { .rlim_cur = limit->soft, .rlim_max = limit->hard }, ours;
                _cleanup_free_ char *name = xasprintf("limit %d", limit->resource);

                if (prlimit(0, (enum __rlimit_resource)limit->resource, &value, NULL) >= 0)
                        continue;
                int number = errno;
                if (number != EPERM || prlimit(0, (enum __rlimit_resource)limit->resource, NULL, &ours) < 0)
                        fail(LAUNCH_LIMIT, number, name);
                /* Not root enough (CAP_SYS_RESOURCE) to have more than we have. */
                if (value.rlim_max > ours.rlim_max)
                        value.rlim_max = ours.rlim_max;
                if (value.rlim_cur > value.rlim_max)
                        value.rlim_cur = value.rlim_max;
                if (prlimit(0, (enum __rlimit_resource)limit->resource, &value, NULL) < 0)
                        fail(LAUNCH_LIMIT, errno, name);
                report(LAUNCH_WARNING_LIMIT, number, LAUNCH_WHY_ERRNO, name);
        }
}

/* "0-3,8". @return 0 or an errno */
static int set_cpus(const char *list) {
        cpu_set_t cpus;

        CPU_ZERO(&cpus);
        for (const char *at = list; *at;) {
                char *end;
                unsigned long first = strtoul(at, &end, 10), last = first;

                if (end == at)
                        return EINVAL;
                if (*end == '-') {
                        at = end + 1;
                        last = strtoul(at, &end, 10);
                        if (end == at)
                                return EINVAL;
                }
                if (last < first || last >= CPU_SETSIZE || (*end && *end != ','))
                        return EINVAL;
                for (; first <= last; first++)
                        CPU_SET(first, &cpus);
                at = *end ? end + 1 : end;
        }
        return sched_setaffinity(0, sizeof(cpus), &cpus) < 0 ? errno : 0;
}

/* How it is scheduled; what is refused is not worth the job. */
static void set_scheduling(const struct launch_settings *settings) {
        int number = settings->cpus ? set_cpus(settings->cpus) : 0;

        if (number != 0)
                report(LAUNCH_WARNING_CPUS, number, LAUNCH_WHY_ERRNO, settings->cpus);
        if (settings->set_nice && setpriority(PRIO_PROCESS, 0, settings->nice) < 0)
                report(LAUNCH_WARNING_NICE, errno, LAUNCH_WHY_ERRNO, NULL);
}

/* A pipe or terminal that was made for the job: without this nobody but root could open its /dev/stdout. */
static void give_stdio(const struct launch_settings *settings) {
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
                struct stat st;

                if (fstat(fd, &st) < 0 || st.st_uid != geteuid())
                        continue;
                if (S_ISFIFO(st.st_mode))
                        (void)!fchown(fd, settings->uid, settings->gid);
                else if (S_ISCHR(st.st_mode) && isatty(fd))
                        (void)!fchown(fd, settings->uid, (gid_t)-1);
        }
}

/* Everything or nothing: with half an identity nothing is executed. */
static void take_identity(const struct launch_settings *settings) {
        if (geteuid() != 0 && settings->uid == geteuid() && settings->gid == getegid())
                return;
        give_stdio(settings);
        (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if (setgroups(settings->n_groups, settings->groups) < 0)
                fail(LAUNCH_IDENTITY, errno, "setgroups");
        if (setresgid(settings->gid, settings->gid, settings->gid) < 0)
                fail(LAUNCH_IDENTITY, errno, "setgid");
        if (setresuid(settings->uid, settings->uid, settings->uid) < 0)
                fail(LAUNCH_IDENTITY, errno, "setuid");
}

static _Noreturn void fail_exec(const char *path, int number) {
        char detail[EXAMINE_DETAIL] = "";
        enum launch_why why = LAUNCH_WHY_ERRNO;

        examine_command(path, &number, &why, detail);
        report(LAUNCH_EXEC, number, why, detail);
        _exit(127);
}

/* `init` is its file, for when its name is not reachable from where and who we are now. */
static _Noreturn void execute_init(const struct launch_parsed *parsed, int init) {
        const struct launch_settings *settings = &parsed->settings;
        _cleanup_free_ char *fd = xasprintf("%d", LAUNCH_REPORT_FD);
        char detail[EXAMINE_DETAIL] = "";
        enum launch_why why = LAUNCH_WHY_ERRNO;
        int number = 0;
        size_t n = 0;

        examine_command(settings->path, &number, &why, detail);
        if (number != 0)
                fail_exec(settings->path, number);

        while (settings->argv[n])
                n++;
        char **argv = xcalloc(n + 7, sizeof(*argv)), **at = argv;
        *at++ = (char *)"stasis-init";
        *at++ = (char *)"--report";
        *at++ = fd;
        *at++ = (char *)"--name";
        *at++ = settings->argv[0];
        *at++ = (char *)"--";
        *at++ = (char *)settings->path;
        memcpy(at, settings->argv + 1, (n - 1) * sizeof(*argv));

        (void)io_set_cloexec(LAUNCH_REPORT_FD, false);
        execve(parsed->init_path, argv, settings->environment);
        if (init >= 0 && (errno == ENOENT || errno == EACCES))
                (void)syscall(SYS_execveat, init, "", argv, settings->environment, AT_EMPTY_PATH);
        fail(LAUNCH_INIT, errno, NULL);
}

int main(void) {
        struct launch_parsed parsed;
        const struct launch_settings *settings = &parsed.settings;
        int init = -EBADF;

        (void)io_set_cloexec(LAUNCH_REPORT_FD, true);
        (void)io_set_cloexec(LAUNCH_NAMESPACES_FD, true);
        read_settings(&parsed);
        close(LAUNCH_SETTINGS_FD);
        if (parsed.init_path) {
                init = open(parsed.init_path, O_PATH | O_CLOEXEC);
                if (init < 0)
                        fail(LAUNCH_INIT, errno, NULL);
        }

        join_cgroups(settings->cgroups);
        if (settings->set_oom)
                set_oom_score_adj(settings->oom_score_adj);
        if (settings->namespaces >= 0)
                join_namespaces();
        if (settings->session && setsid() < 0)
                fail(LAUNCH_SESSION, errno, NULL);
        if (settings->terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
                fail(LAUNCH_TERMINAL, errno, NULL);
        if (settings->set_umask)
                (void)umask(settings->umask);
        set_limits(settings);
        set_scheduling(settings);
        if (settings->set_identity)
                take_identity(settings);
        if (chdir(settings->directory ? settings->directory : "/") < 0)
                fail(LAUNCH_DIRECTORY, errno, NULL);

        if (parsed.init_path)
                execute_init(&parsed, init);
        execve(settings->path, settings->argv, settings->environment);
        fail_exec(settings->path, errno);
}
