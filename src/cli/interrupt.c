/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cli/exit.h"

static int event_fd = -EBADF;
static atomic_int count;

/*
 * SIGINT came in as ignored: a shell started us in the background, where the terminal's Ctrl-C is not for us (POSIX
 * shell, 2.11 "Signals and Error Handling"). A signal that somebody sends to us by kill(2) is.
 */
static bool in_background;

static void handle(int number, siginfo_t *info, void *context) {
        int saved = errno;

        (void)context;
        if (number == SIGINT && in_background && info->si_code == SI_KERNEL)
                return;
        if (atomic_fetch_add(&count, 1) > 0)
                _exit(EXIT_INTERRUPTED);
        (void)eventfd_write(event_fd, 1); /* a write(2): safe here (signal-safety(7)) */
        errno = saved;
}

static bool is_ignored(int number) {
        struct sigaction old;

        return sigaction(number, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
}

int interrupt_watch(struct st_error **err) {
        struct sigaction action = { .sa_sigaction = handle, .sa_flags = SA_RESTART | SA_SIGINFO };

        if (event_fd >= 0)
                return 0;
        event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (event_fd < 0)
                return st_error_errno(err, errno, "cannot watch for signals");

        sigemptyset(&action.sa_mask);
        in_background = is_ignored(SIGINT);
        (void)sigaction(SIGINT, &action, NULL);
        (void)sigaction(SIGTERM, &action, NULL);
        if (!is_ignored(SIGHUP)) /* as nohup(1) leaves it */
                (void)sigaction(SIGHUP, &action, NULL);
        return 0;
}

bool interrupt_in_background(void) {
        return in_background;
}

int interrupt_fd(void) {
        return event_fd;
}

int interrupt_count(void) {
        return atomic_load(&count);
}
