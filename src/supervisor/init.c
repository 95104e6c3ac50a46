/* SPDX-License-Identifier: Apache-2.0 */

/*
 * stasis-init: the root of a job that was started with --init. It adopts what the command leaves behind (a daemon that
 * forks twice), so that all of the job is one tree; passes signals on to the command; reaps; and when all descendants
 * have ended it ends as the command did: with its exit code, or by the same signal.
 *
 *     stasis-init [--report FD] [--name ARGV0] -- PATH ARGUMENT…
 *
 * --report  where it is told that PATH cannot be executed (struct launch_report)
 *
 * The command is in our session and process group. So what a terminal sends to its foreground group reaches the command
 * without us. We hold nothing that a checkpoint would have to restore: no timer, no descriptor; signals are blocked and
 * waited for.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/launch.h"

#define NO_COMMAND 127

static sigset_t before; /* the signals that were blocked when we were started */

static void report_failure(int fd, int number) {
        const struct launch_report report = {
                .number = number,
                .step = LAUNCH_EXEC,
                .why = number == ENOEXEC ? LAUNCH_WHY_NO_PROGRAM : LAUNCH_WHY_ERRNO,
        };

        if (fd >= 0)
                (void)!write(fd, &report, sizeof(report));
        else
                fprintf(stderr, "stasis-init: cannot start the command: %s\n", strerror(number));
}

/* By the kernel's own call: this program is static and small, and does not link what starts children elsewhere. */
static pid_t start(int report, char **argv, const char *name) {
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);

        if (pid < 0)
                report_failure(report, errno);
        if (pid != 0)
                return pid;

        const char *path = argv[0];
        if (name)
                argv[0] = (char *)name;
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        execv(path, argv);
        report_failure(report, errno);
        _exit(NO_COMMAND);
}

/* All but those that tell of a fault of our own, which cannot wait. */
static void block_signals(sigset_t *set) {
        static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };

        sigfillset(set);
        for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++)
                sigdelset(set, faults[i]);
        (void)sigprocmask(SIG_BLOCK, set, &before);
}

/* To what the command has left behind: our children, in the kernel's list "PID PID … ". */
static void signal_children(int number) {
        FILE *f = fopen("/proc/thread-self/children", "re");
        int pid;

        while (f && fscanf(f, "%d", &pid) == 1)
                (void)kill(pid, number);
        if (f)
                (void)fclose(f);
}

static void pass_on(const siginfo_t *info, pid_t command) {
        /*
         * From a terminal: the command has got it, too. But the hang-up is sent to the leader of the session alone when
         * another group than ours is in the foreground.
         */
        if (info->si_code == SI_KERNEL && info->si_signo != SIGHUP)
                return;
        if (command > 0)
                (void)kill(command, info->si_signo);
        else
                signal_children(info->si_signo);
}

/* Reaps what has ended. @return false: nobody is left */
static bool reap(pid_t *command, int *status) {
        for (;;) {
                int one;
                pid_t pid = waitpid(-1, &one, WNOHANG);

                if (pid < 0)
                        return errno != ECHILD;
                if (pid == 0)
                        return true;
                if (pid == *command) {
                        *status = one;
                        *command = 0;
                }
        }
}

static _Noreturn void end_as(int status) {
        if (WIFSIGNALED(status)) {
                const struct rlimit no_core = { 0 };
                int number = WTERMSIG(status);
                sigset_t set;

                /* The command's own memory was what mattered. */
                (void)setrlimit(RLIMIT_CORE, &no_core);
                (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
                (void)signal(number, SIG_DFL);
                sigemptyset(&set);
                sigaddset(&set, number);
                (void)kill(getpid(), number);
                (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
                _exit(128 + number);
        }
        _exit(WEXITSTATUS(status));
}

int main(int argc, char **argv) {
        int status = NO_COMMAND << 8, report = -1, at = 1;
        const char *name = NULL;
        sigset_t set;

        for (; at + 1 < argc && strcmp(argv[at], "--") != 0; at += 2)
                if (strcmp(argv[at], "--report") == 0)
                        report = (int)strtol(argv[at + 1], NULL, 10);
                else if (strcmp(argv[at], "--name") == 0)
                        name = argv[at + 1];
                else
                        break;
        if (at + 1 >= argc || strcmp(argv[at], "--") != 0) {
                fprintf(stderr, "usage: stasis-init [--report FD] [--name ARGV0] -- PATH ARGUMENT…\n");
                return 2;
        }

        (void)prctl(PR_SET_NAME, "stasis-init");
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        block_signals(&set);
        if (report >= 0)
                (void)fcntl(report, F_SETFD, FD_CLOEXEC);
        pid_t command = start(report, argv + at + 1, name);
        if (command < 0)
                return NO_COMMAND;
        if (report >= 0)
                (void)close(report);

        while (reap(&command, &status)) {
                siginfo_t info;
                int number = sigwaitinfo(&set, &info);

                if (number > 0 && number != SIGCHLD)
                        pass_on(&info, command);
        }
        end_as(status);
}
