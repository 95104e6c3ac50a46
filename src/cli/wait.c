/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/wait.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/spawn.h"
#include "cli/interrupt.h"

struct waiter {
        pid_t pid;
        int status;
        bool ended;
        int signal_fd;
        int pty;          /* -EBADF: none, or nobody has it open any more */
        bool input_ended; /* nothing more comes from our stdin */
        char input[4096]; /* what the terminal has not taken yet */
        size_t input_begin, input_end;
};

static void waiter_close(struct waiter *waiter) {
        cleanup_closep(&waiter->signal_fd);
}

static const int passed_on[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };

/* What a terminal sends goes to its whole foreground group: a child in our group has it already. */
static bool in_our_group(pid_t pid) {
        return getpgid(pid) == getpgrp();
}

static void pass_on(const struct waiter *waiter, const struct signalfd_siginfo *info) {
        if (info->ssi_signo == SIGCHLD || waiter->ended)
                return;
        if (info->ssi_code == SI_KERNEL && in_our_group(waiter->pid))
                return;
        (void)kill(waiter->pid, (int)info->ssi_signo);
}

static void take_signals(const struct waiter *waiter) {
        struct signalfd_siginfo info;

        while (read(waiter->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
                pass_on(waiter, &info);
}

/* @return 0; -ECHILD when the process is not among our children */
static int reap(struct waiter *waiter) {
        for (;;) {
                int status;
                pid_t pid = waitpid(-1, &status, WNOHANG);

                if (pid < 0 && errno == EINTR)
                        continue;
                if (pid < 0)
                        return waiter->ended ? 0 : -errno;
                if (pid == 0)
                        return 0;
                if (pid == waiter->pid) {
                        waiter->status = status;
                        waiter->ended = true;
                }
        }
}

/* @return was there anything? */
static bool copy_output(struct waiter *waiter) {
        char buffer[16384];

        ssize_t n = read(waiter->pty, buffer, sizeof(buffer));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return false;
        if (n <= 0) { /* EIO: nobody has the other end open */
                waiter->pty = -EBADF;
                return false;
        }
        (void)io_write_full(STDOUT_FILENO, buffer, (size_t)n); /* the process runs on when nobody reads */
        return true;
}

static void read_input(struct waiter *waiter) {
        ssize_t n = read(STDIN_FILENO, waiter->input, sizeof(waiter->input));

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        waiter->input_ended = n <= 0;
        waiter->input_begin = 0;
        waiter->input_end = n > 0 ? (size_t)n : 0;
}

static void write_input(struct waiter *waiter) {
        ssize_t n = write(waiter->pty, waiter->input + waiter->input_begin, waiter->input_end - waiter->input_begin);

        if (n > 0)
                waiter->input_begin += (size_t)n;
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
                waiter->input_begin = waiter->input_end;
}

static void wait_once(struct waiter *waiter) {
        bool pending = waiter->input_begin < waiter->input_end;
        bool wants_input = waiter->pty >= 0 && !pending && !waiter->input_ended;
        struct pollfd fds[] = {
                { .fd = waiter->signal_fd, .events = POLLIN },
                { .fd = waiter->pty, .events = (short)(POLLIN | (pending ? POLLOUT : 0)) },
                { .fd = wants_input ? STDIN_FILENO : -1, .events = POLLIN },
        };

        if (poll(fds, ELEMENTSOF(fds), -1) < 0)
                return;
        if (fds[0].revents)
                take_signals(waiter);
        if (fds[1].revents & POLLOUT)
                write_input(waiter);
        if (fds[1].revents & ~POLLOUT)
                (void)copy_output(waiter);
        if (fds[2].revents)
                read_input(waiter);
}

static int watch_signals(struct waiter *waiter, struct st_error **err) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        for (size_t i = 0; i < ELEMENTSOF(passed_on); i++)
                sigaddset(&set, passed_on[i]);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return st_error_errno(err, errno, "cannot block signals");
        waiter->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return waiter->signal_fd < 0 ? st_error_errno(err, errno, "cannot watch for signals") : 0;
}

int wait_for_process(pid_t pid, int pty, struct st_error **err) {
        _cleanup_(waiter_close) struct waiter waiter = { .pid = pid, .pty = pty, .signal_fd = -EBADF };
        int r;

        r = watch_signals(&waiter, err);
        if (r < 0)
                return r;
        if (pty >= 0)
                (void)io_set_nonblocking(pty, true);
        /* One that came before, when it was too late to cancel. */
        if (interrupt_count() > 0 && !in_our_group(pid))
                (void)kill(pid, SIGTERM);

        for (;;) {
                r = reap(&waiter);
                if (r < 0)
                        return st_error_errno(err, r, "cannot wait for process %d", (int)pid);
                if (waiter.ended)
                        break;
                wait_once(&waiter);
        }
        while (waiter.pty >= 0 && copy_output(&waiter))
                ;
        return spawn_exit_code(waiter.status);
}
