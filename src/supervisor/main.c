/* SPDX-License-Identifier: Apache-2.0 */

/*
 * stasis-supervisor: what the worker of a run or restore becomes (by exec: its PID, children and descriptors stay).
 * It is the parent and subreaper of the process, reaps it, keeps its exit code in the status file, and carries its
 * standard streams to whoever attaches (protocol.h).
 *
 *     stasis-supervisor --dir DIR --pid PID [--child PID] [--answer FD --socket FD]
 *                       [--terminal FD | --stdin FD --stdout FD --stderr FD] [--log FILE | --log-fd FD] [--linger MS]
 *                       [--memory FD --record FILE --program FD]
 *
 * --dir       of the status file and the socket, made by the caller; absolute
 * --child     our child that ends with the exit code of that process, when it is another: `runc restore`, say
 * --answer    a file whose content goes to --socket once the status file stands: the worker's result for the daemon
 * --terminal  the master of the process's terminal
 * --stdin …   our ends of the pipes that are its standard streams; any of them may be missing
 * --log       what it prints is appended there, too; --log-fd: the same, opened by the caller as the user it is for
 * --linger    somebody is about to attach: what the process prints is kept for it, and after the end the socket, for so
 *             long. The process waits meanwhile when it prints more than the backlog
 * --memory    its memory still comes: memory.h; --program: stasis, opened
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/text.h"
#include "supervisor/memory.h"
#include "supervisor/supervisor.h"

#define LINGER_MAX ((int64_t)24 * 3600 * 1000)

void poll_set_add(struct poll_set *set, int fd, short events) {
        if (fd >= 0 && set->n < ELEMENTSOF(set->items))
                set->items[set->n++] = (struct pollfd){ .fd = fd, .events = events };
}

void poll_set_until(struct poll_set *set, uint64_t when) {
        if (set && when < set->until)
                set->until = when;
}

short poll_set_events(const struct poll_set *set, int fd) {
        short events = 0;

        for (size_t i = 0; i < set->n; i++)
                if (set->items[i].fd == fd)
                        events |= set->items[i].revents;
        return events;
}

static int poll_set_wait(struct poll_set *set) {
        uint64_t now = clock_ms();
        int timeout = -1;

        if (set->until != UINT64_MAX)
                timeout = set->until <= now ? 0 : set->until - now > INT32_MAX ? INT32_MAX : (int)(set->until - now);
        if (poll(set->items, set->n, timeout) >= 0)
                return 0;
        for (size_t i = 0; i < set->n; i++)
                set->items[i].revents = 0;
        return errno == EINTR ? 0 : -errno;
}

static int parse_fd(const char *text, int *ret) {
        int64_t fd;
        int r = text_to_int(text, 0, INT32_MAX, &fd);

        if (r < 0)
                return r;
        *ret = (int)fd;
        return 0;
}

static int parse_option(struct supervisor *supervisor, int option, const char *value) {
        int64_t linger;
        int r = 0;

        switch (option) {
        case 'd':
                supervisor->dir = value;
                break;
        case 'p':
                return text_to_pid(value, &supervisor->status.pid);
        case 'c':
                return text_to_pid(value, &supervisor->child);
        case 'a':
                return parse_fd(value, &supervisor->answer);
        case 's':
                return parse_fd(value, &supervisor->socket);
        case 't':
                supervisor->terminal = true;
                r = parse_fd(value, &supervisor->streams[0].fd);
                supervisor->in = supervisor->streams[0].fd;
                return r;
        case 'i':
                return parse_fd(value, &supervisor->in);
        case 'o':
                return parse_fd(value, &supervisor->streams[0].fd);
        case 'e':
                return parse_fd(value, &supervisor->streams[1].fd);
        case 'l':
                supervisor->log = value;
                break;
        case 'f':
                return parse_fd(value, &supervisor->log_fd);
        case 'm':
                return parse_fd(value, &supervisor->memory);
        case 'r':
                supervisor->record = value;
                break;
        case 'x':
                return parse_fd(value, &supervisor->program);
        case 'w':
                r = text_to_int(value, 0, LINGER_MAX, &linger);
                supervisor->linger = r < 0 ? 0 : (uint64_t)linger;
                return r;
        default:
                return -EINVAL;
        }
        return 0;
}

static int parse(struct supervisor *supervisor, int argc, char **argv) {
        static const struct option options[] = {
                { "dir", required_argument, NULL, 'd' },     { "pid", required_argument, NULL, 'p' },
                { "child", required_argument, NULL, 'c' },   { "answer", required_argument, NULL, 'a' },
                { "socket", required_argument, NULL, 's' },  { "terminal", required_argument, NULL, 't' },
                { "stdin", required_argument, NULL, 'i' },   { "stdout", required_argument, NULL, 'o' },
                { "stderr", required_argument, NULL, 'e' },  { "log", required_argument, NULL, 'l' },
                { "log-fd", required_argument, NULL, 'f' },  { "linger", required_argument, NULL, 'w' },
                { "memory", required_argument, NULL, 'm' },  { "record", required_argument, NULL, 'r' },
                { "program", required_argument, NULL, 'x' }, { NULL, 0, NULL, 0 },
        };
        int c, r;

        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                r = parse_option(supervisor, c, optarg);
                if (r < 0)
                        return r;
        }
        if (supervisor->child == 0)
                supervisor->child = supervisor->status.pid;
        if (supervisor->memory >= 0 && (!supervisor->record || supervisor->program < 0))
                return -EINVAL;
        return supervisor->dir && supervisor->status.pid > 0 && optind == argc ? 0 : -EINVAL;
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

static void root_ended(struct supervisor *supervisor) {
        if (supervisor->ended > 0)
                return;
        supervisor->ended = clock_ms();
        stdio_root_ended(supervisor);
}

/* Reaps what has ended. */
static void reap(struct supervisor *supervisor) {
        int status;

        for (;;) {
                pid_t pid = waitpid(-1, &status, WNOHANG);

                if (pid < 0) {
                        supervisor->childless = errno == ECHILD;
                        break;
                }
                if (pid == 0)
                        break;
                if (WIFSTOPPED(status))
                        continue; /* traced by us, which we never asked for */
                if (pid == supervisor->child) {
                        supervisor->status.exited = true;
                        supervisor->status.exit_status = status;
                        supervisor->status.time = time(NULL);
                        save(supervisor);
                        root_ended(supervisor);
                }
        }
        if (supervisor->childless)
                root_ended(supervisor);
}

static int watch_signals(void) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        /* Somebody who ends all processes of a terminal or unit means the job, which gets the signal itself. */
        sigaddset(&set, SIGHUP);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGQUIT);
        sigaddset(&set, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool lingers(struct supervisor *supervisor, struct poll_set *set) {
        uint64_t until = supervisor->ended + supervisor->linger;

        if (supervisor->linger == 0 || supervisor->ever_attached || clock_ms() >= until)
                return false;
        poll_set_until(set, until);
        return true;
}

/** Nobody puts anything into the socket any more. Without a guard what runs could read zeros. */
static void guard_memory(struct supervisor *supervisor) {
        char program[64];

        (void)snprintf(program, sizeof(program), "/proc/%d/fd/%d", (int)getpid(), supervisor->program);
        if (memory_abandoned(&supervisor->memory, supervisor->record, program) < 0)
                (void)kill(supervisor->status.pid, SIGKILL);
        close(supervisor->program);
        supervisor->program = -EBADF;
}

static void supervise(struct supervisor *supervisor) {
        struct signalfd_siginfo info;

        reap(supervisor);
        for (;;) {
                struct poll_set set = { .until = UINT64_MAX };

                if (supervisor->ended && !supervisor->concluded && stdio_settled(supervisor)) {
                        supervisor->concluded = true;
                        clients_exit(supervisor);
                }
                if (supervisor->childless && supervisor->concluded) {
                        bool done = clients_done(supervisor, &set);
                        if (!lingers(supervisor, &set) && done)
                                return;
                }
                poll_set_add(&set, supervisor->signals, POLLIN);
                poll_set_add(&set, supervisor->memory, 0);
                stdio_poll(supervisor, &set);
                input_poll(supervisor, &set);
                clients_poll(supervisor, &set);
                if (poll_set_wait(&set) < 0)
                        return;

                if (poll_set_events(&set, supervisor->signals)) {
                        while (read(supervisor->signals, &info, sizeof(info)) > 0)
                                continue;
                        reap(supervisor);
                }
                if (supervisor->memory >= 0 && poll_set_events(&set, supervisor->memory))
                        guard_memory(supervisor);
                input_write(supervisor);
                clients_serve(supervisor, &set);
                stdio_take(supervisor, &set);
        }
}

/* What the worker has left open for us stays here. */
static void take_descriptors(struct supervisor *supervisor) {
        const int fds[] = { supervisor->answer,        supervisor->socket,        supervisor->in,
                            supervisor->streams[0].fd, supervisor->streams[1].fd, supervisor->log_fd,
                            supervisor->memory,        supervisor->program };

        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                if (fds[i] >= 0)
                        (void)io_set_cloexec(fds[i], true);
        for (size_t i = 2; i < 5; i++)
                if (fds[i] >= 0)
                        (void)io_set_nonblocking(fds[i], true);
        supervisor->attachable = fds[2] >= 0 || fds[3] >= 0 || fds[4] >= 0;
        for (size_t i = 0; i < ELEMENTSOF(supervisor->clients); i++)
                supervisor->clients[i].fd = -EBADF;
}

/* The daemon's: whoever waits for the end of its output, in a pipe, would wait for ours, too. */
static void leave_standard_streams(void) {
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);

        for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
                if (null != fd)
                        (void)dup2(null, fd);
        if (null >= 0 && null <= STDERR_FILENO)
                (void)TAKE_FD(null); /* it is one of them */
}

static void write_record(struct supervisor *supervisor) {
        supervisor->status.start_time = supervisor_start_time(supervisor->status.pid);
        supervisor->status.supervisor = getpid();
        supervisor->status.supervisor_start = supervisor_start_time(getpid());
        supervisor->status.time = time(NULL);
        supervisor_boot_id(supervisor->status.boot);
        save(supervisor);
}

int main(int argc, char **argv) {
        static struct supervisor supervisor = {
                .dir_fd = -EBADF,
                .listening = -EBADF,
                .answer = -EBADF,
                .socket = -EBADF,
                .streams = { { .fd = -EBADF, .kind = SUPERVISOR_STDOUT }, { .fd = -EBADF, .kind = SUPERVISOR_STDERR } },
                .in = -EBADF,
                .log_fd = -EBADF,
                .memory = -EBADF,
                .program = -EBADF,
        };

        if (parse(&supervisor, argc, argv) < 0 || !supervisor.dir) {
                fprintf(stderr, "stasis-supervisor: started by stasis after a run or restore, not by hand\n");
                return 2;
        }
        supervisor.dir_fd = open(supervisor.dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        supervisor.signals = watch_signals();
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        (void)signal(SIGPIPE, SIG_IGN);
        take_descriptors(&supervisor);
        supervisor.root = (int)syscall(SYS_pidfd_open, supervisor.status.pid, 0);
        (void)!chdir("/"); /* holds no file system that somebody wants to unmount */

        write_record(&supervisor);
        stdio_open(&supervisor);
        clients_listen(&supervisor);
        deliver_answer(&supervisor);
        leave_standard_streams();
        supervise(&supervisor);
        if (supervisor.listening >= 0)
                (void)unlinkat(supervisor.dir_fd, SUPERVISOR_SOCKET, 0);
        return 0;
}
