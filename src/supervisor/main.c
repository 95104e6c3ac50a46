/* SPDX-License-Identifier: Apache-2.0 */

/*
 * stasis-supervisor: what the worker of a restore becomes (by exec: its PID, children and descriptors stay). It is the
 * parent and subreaper of the restored process, reaps it, and keeps its exit code in the status file.
 *
 *     stasis-supervisor --dir DIR --pid PID [--child PID] [--answer FD --socket FD] [--terminal FD --log FILE]
 *
 * --dir       of the status file, made by the caller
 * --child     our child that ends with the exit code of that process, when it is another: `runc restore`, say
 * --answer    a file whose content goes to --socket once the status file stands: the worker's result for the daemon
 * --terminal  the master of the process's terminal: what it prints goes to the log
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/text.h"
#include "supervisor/status.h"

struct supervisor {
        const char *dir;
        const char *log;
        int answer, socket, terminal, log_fd, signals;
        pid_t child;
        struct supervisor_status status;
};

static int parse_fd(const char *text) {
        int64_t fd;
        return text_to_int(text, 0, INT16_MAX, &fd) < 0 ? -EBADF : (int)fd;
}

static int parse(struct supervisor *supervisor, int argc, char **argv) {
        static const struct option options[] = {
                { "dir", required_argument, NULL, 'd' },    { "pid", required_argument, NULL, 'p' },
                { "child", required_argument, NULL, 'c' },  { "answer", required_argument, NULL, 'a' },
                { "socket", required_argument, NULL, 's' }, { "terminal", required_argument, NULL, 't' },
                { "log", required_argument, NULL, 'l' },    { NULL, 0, NULL, 0 },
        };
        int c;

        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                switch (c) {
                case 'd':
                        supervisor->dir = optarg;
                        break;
                case 'p':
                        if (text_to_pid(optarg, &supervisor->status.pid) < 0)
                                return -EINVAL;
                        break;
                case 'c':
                        if (text_to_pid(optarg, &supervisor->child) < 0)
                                return -EINVAL;
                        break;
                case 'a':
                        supervisor->answer = parse_fd(optarg);
                        break;
                case 's':
                        supervisor->socket = parse_fd(optarg);
                        break;
                case 't':
                        supervisor->terminal = parse_fd(optarg);
                        break;
                case 'l':
                        supervisor->log = optarg;
                        break;
                default:
                        return -EINVAL;
                }
        }
        if (supervisor->child == 0)
                supervisor->child = supervisor->status.pid;
        return supervisor->dir && supervisor->status.pid > 0 ? 0 : -EINVAL;
}

static void save(struct supervisor *supervisor) {
        int r = supervisor_status_write(supervisor->dir, &supervisor->status);
        if (r < 0)
                fprintf(stderr, "stasis-supervisor: cannot write %s/status: %s\n", supervisor->dir, strerror(-r));
}

/** Only now, with the record on disk, does the daemon learn of the success. */
static void deliver_answer(struct supervisor *supervisor) {
        char buffer[65536];
        ssize_t n;

        if (supervisor->answer >= 0 && supervisor->socket >= 0) {
                (void)lseek(supervisor->answer, 0, SEEK_SET);
                while ((n = read(supervisor->answer, buffer, sizeof(buffer))) > 0)
                        if (io_write_full(supervisor->socket, buffer, (size_t)n) < 0)
                                break;
        }
        if (supervisor->answer >= 0)
                close(supervisor->answer);
        if (supervisor->socket >= 0)
                close(supervisor->socket);
}

/** Takes what the process printed, so that it never blocks on a full terminal. @return false at the terminal's end */
static bool drain_terminal(struct supervisor *supervisor) {
        char buffer[16384];
        ssize_t n = read(supervisor->terminal, buffer, sizeof(buffer));

        /* EIO: nobody has the other side open any more. */
        if (n < 0)
                return errno == EAGAIN || errno == EINTR;
        if (n == 0)
                return false;
        if (supervisor->log_fd >= 0)
                (void)io_write_full(supervisor->log_fd, buffer, (size_t)n);
        return true;
}

/** Reaps what has ended. @return false when no child is left */
static bool reap(struct supervisor *supervisor) {
        int status;

        for (;;) {
                pid_t pid = waitpid(-1, &status, WNOHANG);

                if (pid < 0)
                        return errno != ECHILD;
                if (pid == 0)
                        return true;
                if (WIFSTOPPED(status))
                        continue; /* traced by us, which we never asked for */
                if (pid == supervisor->child) {
                        supervisor->status.exited = true;
                        supervisor->status.exit_status = status;
                        supervisor->status.time = time(NULL);
                        save(supervisor);
                }
        }
}

static int watch_signals(void) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        /* Somebody who ends all processes of a terminal or unit means the job, which gets the signal itself. */
        sigaddset(&set, SIGHUP);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void supervise(struct supervisor *supervisor) {
        struct signalfd_siginfo info;

        while (reap(supervisor)) {
                struct pollfd polled[] = {
                        { .fd = supervisor->signals, .events = POLLIN },
                        { .fd = supervisor->terminal, .events = POLLIN },
                };
                if (poll(polled, ELEMENTSOF(polled), -1) < 0 && errno != EINTR)
                        return;
                while (read(supervisor->signals, &info, sizeof(info)) > 0)
                        continue;
                if (polled[1].revents && !drain_terminal(supervisor)) {
                        close(supervisor->terminal);
                        supervisor->terminal = -EBADF;
                }
        }
        while (supervisor->terminal >= 0 && io_set_nonblocking(supervisor->terminal, true) >= 0) {
                char buffer[4096];
                ssize_t n = read(supervisor->terminal, buffer, sizeof(buffer));
                if (n <= 0)
                        return;
                if (supervisor->log_fd >= 0)
                        (void)io_write_full(supervisor->log_fd, buffer, (size_t)n);
        }
}

int main(int argc, char **argv) {
        struct supervisor supervisor = {
                .answer = -EBADF,
                .socket = -EBADF,
                .terminal = -EBADF,
                .log_fd = -EBADF,
        };

        if (parse(&supervisor, argc, argv) < 0) {
                fprintf(stderr, "stasis-supervisor: started by stasis after a restore, not by hand\n");
                return 2;
        }
        supervisor.signals = watch_signals();
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)!chdir("/"); /* holds no file system that somebody wants to unmount */

        supervisor.status.start_time = supervisor_start_time(supervisor.status.pid);
        supervisor.status.supervisor = getpid();
        supervisor.status.supervisor_start = supervisor_start_time(getpid());
        supervisor.status.time = time(NULL);
        supervisor_boot_id(supervisor.status.boot);
        save(&supervisor);

        if (supervisor.terminal >= 0 && supervisor.log)
                supervisor.log_fd = open(supervisor.log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
        deliver_answer(&supervisor);
        supervise(&supervisor);
        return 0;
}
